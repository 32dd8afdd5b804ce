import io

import pytest

from profiling.measure.progress import Display, Workload


def test_time_left_is_the_sum_of_estimates_at_first():
    work = Workload()
    work.plan("one", 30)
    work.plan("two", 10)

    assert work.time_left_s(elapsed_s=0) == pytest.approx(40)
    assert work.done_frac() == 0


def test_time_left_is_corrected_by_the_speed_so_far():
    work = Workload()
    work.plan("one", 30)
    work.plan("two", 10)
    work.advance("one", 0.0)
    work.advance("one", 1.0)

    assert work.done_frac() == pytest.approx(0.75)
    assert work.time_left_s(elapsed_s=60) == pytest.approx(20)  # twice as slow as estimated


def test_what_was_done_before_says_nothing_about_speed():
    work = Workload()
    work.plan("one", 100)
    work.advance("one", 0.9)  # continued
    work.advance("one", 0.96)

    assert work.time_left_s(elapsed_s=12) == pytest.approx(4 * 2)  # 6 of 100 s took 12


def test_lines_where_there_is_no_terminal():
    stream, work = io.StringIO(), Workload()
    work.plan("scene-nano: images", 60)
    work.plan("report", 60)

    with Display(work, stream) as display:
        display.advance("scene-nano: images", 0.0)
        display.advance("scene-nano: images", 0.5)
        display.workload.plan("report", 20)
        display.advance("report", 0.0)

    assert stream.getvalue().splitlines() == [
        "scene-nano: images: 0% of everything done, 2:00 left",
        "report: 38% of everything done, 0:10 left",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal():
    stream, work = Terminal(), Workload()
    work.plan("scene-nano: images", 60)

    with Display(work, stream) as display:
        display.advance("scene-nano: images", 0.5)

    assert "scene-nano: images" in stream.getvalue()
    assert "50 %" in stream.getvalue()
    assert "0:30 left" in stream.getvalue()
