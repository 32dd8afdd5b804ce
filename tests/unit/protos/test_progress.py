import doctest
import io

from rich.console import Console

from protos import progress


def test_the_doctests_hold():
    found = doctest.testmod(progress)
    assert found.attempted
    assert not found.failed


def test_a_line_that_is_not_due_waits_for_its_time():
    stream = io.StringIO()
    line = progress.StatusLine(Console(file=stream))

    line.show("too early")
    line.show("a new task", is_due=True)
    line.show("too early again")

    assert stream.getvalue() == "a new task\n"
