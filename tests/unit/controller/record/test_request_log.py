import dataclasses
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.record.request_log import (
    Averages,
    CacheRecord,
    NodeRecord,
    RequestLog,
    RequestRecord,
)


@pytest.fixture
def log(tmp_path):
    with RequestLog(tmp_path / "requests.sqlite") as opened:
        yield opened


def row(name: str = "r1", **changes) -> RequestRecord:
    values = {
        "user_id": "user-0",
        "model_id": "a",
        "prompt": "a red circle",
        "seed": 7,
        "submitted_utc": "2026-01-01T00:00:00.000+00:00",
    } | changes
    return RequestRecord(request_id=name, **values)


def test_a_request_is_written_and_read_whole(log):
    written = row(frame=1, slot=2, is_hit=True, total_s=0.5, image_path="images/r1.png")
    log.open(written)
    assert log.find("r1") == written
    assert log.find("r2") is None


def test_a_second_row_of_a_request_is_refused(log):
    log.open(row())
    with pytest.raises(ValueError, match="'r1' has a row already"):
        log.open(row(prompt="another"))
    assert [one.prompt for one in log.rows()] == ["a red circle"]


def test_the_first_ending_stays(log):
    log.open(row())
    assert log.close("r1", "served", total_s=1.0)
    assert not log.close("r1", "failed", reason="late")
    log.update("r1", reason="later")
    assert (log.find("r1").status, log.find("r1").reason) == ("served", "")


def test_an_unknown_column_is_refused(log):
    log.open(row())
    with pytest.raises(ValueError, match=r"no column \['totals'\]"):
        log.update("r1", totals=1.0)


def test_closing_all_ends_only_what_is_open(log):
    for name in ("r1", "r2", "r3"):
        log.open(row(name))
    log.close("r2", "served", utility=0.5)
    assert log.close_all("the run ended", -0.3) == 2
    assert [(one.status, one.utility) for one in log.rows()] == [
        ("failed", -0.3),
        ("served", 0.5),
        ("failed", -0.3),
    ]
    assert log.counts() == {"open": 0, "served": 1, "rejected": 0, "failed": 2}


def test_averages_take_utility_over_all_and_the_rest_over_the_served(log):
    assert log.averages() == Averages(0.0, 0.0, 0.0)
    for name in ("r1", "r2", "r3", "r4"):
        log.open(row(name))
    log.close("r1", "served", utility=0.6, total_s=1.0, is_hit=True)
    log.close("r2", "served", utility=0.4, total_s=3.0, is_hit=False)
    log.close("r3", "failed", utility=-0.4, total_s=99.0)
    # utility (0.6 + 0.4 - 0.4) / 3, hits 1 of 2 served, latency (1 + 3) / 2; r4 is open
    averages = log.averages()
    assert (averages.utility, averages.hit_frac, averages.total_s) == pytest.approx((0.2, 0.5, 2.0))


def test_every_row_survives_a_process_that_never_closes_its_file(tmp_path):
    file = tmp_path / "requests.sqlite"
    killed = RequestLog(file).__enter__()
    killed.open(row())
    killed.close("r1", "served", total_s=1.0)
    try:
        reader = sqlite3.connect(file)
        assert reader.execute("SELECT status FROM requests").fetchall() == [("served",)]
        reader.close()
    finally:
        killed.__exit__(None, None, None)


def test_cache_decisions_and_nodes_are_completed_in_place(log):
    log.write_cache(CacheRecord(frame=0, node_id="e", models="a,b"))
    log.write_cache(CacheRecord(frame=0, node_id="e", models="a,b", duration_s=0.5))
    node = NodeRecord(
        node_id="e", address="h:1", role="edge", capacity_bytes=9, device="cpu", is_alive=True
    )
    log.write_node(node)
    log.write_node(dataclasses.replace(node, is_alive=False))
    assert [cache.duration_s for cache in log.caches()] == [0.5]
    assert [one.is_alive for one in log.nodes()] == [False]


@given(
    operations=st.lists(
        st.tuples(
            st.sampled_from(["open", "served", "rejected", "failed"]), st.sampled_from("abc")
        ),
        max_size=30,
    )
)
def test_whatever_happens_a_request_has_one_row_and_its_first_ending(tmp_path_factory, operations):
    expected: dict[str, str] = {}
    with RequestLog(tmp_path_factory.mktemp("log") / "requests.sqlite") as log:
        for verb, name in operations:
            if verb == "open" and name not in expected:
                log.open(row(name))
                expected[name] = "open"
            elif verb != "open":
                assert log.close(name, verb) == (expected.get(name) == "open")
                if expected.get(name) == "open":
                    expected[name] = verb
        assert {one.request_id: one.status for one in log.rows()} == expected
        assert len(log.rows()) == len(expected)
