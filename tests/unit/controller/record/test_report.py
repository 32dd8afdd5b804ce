import math

import pytest

from controller.cell.dynamics import CAUSES
from controller.record import report
from controller.record.config import NodeSpec, RunConfig
from controller.record.request_log import CacheRecord, NodeRecord, RequestLog, RequestRecord
from controller.record.summary import grouped, summarise
from profiling import records
from protos.config import ConfigError, to_json
from tests.unit.controller.profiles import MANIFEST, model, profile

PNG = b"\x89PNG\r\n\x1a\n"


def row(number: int, **changes) -> RequestRecord:
    values = {
        "user_id": "user-0",
        "model_id": "a",
        "prompt": "a <red> circle",
        "seed": 1,
        "submitted_utc": "2026-01-01",
        "frame": 0,
        "slot": 0,
    } | changes
    return RequestRecord(request_id=f"r{number}", **values)


def served(number: int, total_s: float, *, is_hit: bool, **changes) -> RequestRecord:
    """A served request whose latency is half wait and half generating."""
    causes = dict.fromkeys(CAUSES, 0.0) | {"wait_s": total_s / 2, "generate_s": total_s / 2}
    where = ("e", "edge") if is_hit else ("c", "cloud")
    values = {"node_id": where[0], "role": where[1], "num_tries": 1, "num_steps": 10}
    values |= {"quality": 0.8, "utility": 0.5, "total_s": total_s} | causes | changes
    return row(number, status="served", is_hit=is_hit, **values)


ROWS = [
    served(0, 1.0, is_hit=True, image_path="images/r0.png"),
    served(1, 3.0, is_hit=False, model_id="b", quality=0.4, utility=0.1),
    served(
        2, 2.0, is_hit=False, num_tries=2, slot=1, reason="e did not serve it: sent to the cloud"
    ),
    row(3, status="failed", reason="out of | luck", utility=-0.3, frame=1),
    row(4, status="rejected", reason="run ended", utility=-0.3, frame=None, slot=None),
]


def test_the_numbers_of_known_rows():
    found = summarise(ROWS)
    assert (found.num_requests, found.num_served) == (5, 3)
    assert (found.num_rejected, found.num_failed, found.num_retried) == (1, 1, 1)
    assert found.hit_frac == pytest.approx(1 / 3)
    # the mean of 0.5, 0.1, 0.5, -0.3 and -0.3
    assert found.utility == pytest.approx(0.1)
    assert found.quality == pytest.approx(2.0 / 3)
    assert (found.total_s, found.median_s) == pytest.approx((2.0, 2.0))
    assert found.p95_s == pytest.approx(2.9)  # 0.9 of the way from the second to the third
    assert sum(found.by_cause.values()) == pytest.approx(found.total_s)


def test_means_over_no_request_are_not_numbers():
    found = summarise([row(0, status="failed", utility=-0.3)])
    assert math.isnan(found.total_s)
    assert math.isnan(found.hit_frac)
    assert found.utility == -0.3


def test_groups_hold_every_row_once():
    groups = grouped(ROWS, lambda one: (one.model_id, one.role))
    assert list(groups) == [("a", ""), ("a", "cloud"), ("a", "edge"), ("b", "cloud")]
    assert sum(len(some) for some in groups.values()) == len(ROWS)


@pytest.fixture
def folder(tmp_path):
    """A finished run's folder."""
    config = RunConfig(
        num_frames=2,
        slots_per_frame=2,
        slot_s=1.0,
        num_users=3,
        nodes=(NodeSpec(attach="127.0.0.1:1"),),
    )
    run = tmp_path / "live-demo" / "20260101T000000Z-s0-abcdef0"
    (run / "images").mkdir(parents=True)
    (run / "images" / "r0.png").write_bytes(PNG)
    (run / "config.json").write_bytes(to_json(config))
    (run / "manifest.json").write_bytes(to_json(MANIFEST))
    records.save(profile(model("a"), model("b")), run / "profile.json")
    return run


def fill(folder, rows) -> None:
    with RequestLog(folder / "requests.sqlite") as log:
        for one in rows:
            log.open(one)
        log.write_cache(CacheRecord(frame=0, node_id="e", models="a,b", duration_s=0.25))
        log.write_cache(CacheRecord(frame=1, node_id="e", models="", error="NodeDownError: gone"))
        for node_id, role, is_alive in (("e", "edge", False), ("c", "cloud", True)):
            log.write_node(
                NodeRecord(
                    node_id=node_id,
                    address="h:1",
                    role=role,
                    capacity_bytes=40_000_000,
                    device="cpu",
                    is_alive=is_alive,
                )
            )


def test_a_report_tells_what_happened_and_where_its_numbers_come_from(folder):
    fill(folder, ROWS)

    page = report.write(folder)

    assert page == folder / "report.html"
    text = (folder / "report.md").read_text()
    assert text.startswith("# Live run: live-demo\n")
    for claim in (
        "sent 5 requests in 2 frames of 2 slots of 1 s",
        "3 were served, 1 rejected, 1 failed",
        "| 0.100 | 33% | 2.00 s | 2.00 s | 2.90 s | 0.667 | 10.0 |",
        "1 requests were served by the cloud after their edge node failed",
        "| b | c | 1 | 10.0 | 0.400 | 0.100 | 1.500 | 3.000 |",
        "| e | edge | cpu | 40.0 | 1 | lost |",
        "| failed | 1 | out of \\| luck |",
        "| 1 | e | a, b | 0.250 |  | a 2, b 1 |",
        "| 2 | e | none | not ended | NodeDownError: gone | a 1 |",
        "device synthetic",
        "Measured in this run",
        "Emulated: users",
        "it is not scored on this run's images",
        r"![](images/r0.png) a \<red\> circle (a at e, 10 steps, 1.00 s)",
    ):
        assert claim in text, claim
    assert (folder / "plot-timeline.png").read_bytes().startswith(PNG)
    assert (folder / "plot-latency.png").read_bytes().startswith(PNG)


def test_the_page_needs_no_other_file_and_escapes_prompts(folder):
    fill(folder, ROWS)

    page = report.write(folder).read_text()

    assert page.count('src="data:image/png;base64,') == 3
    assert 'src="images' not in page
    assert "a &lt;red&gt; circle" in page
    assert "<red>" not in page


@pytest.mark.parametrize("rows", [[], ROWS[3:]], ids=["no request", "none served"])
def test_a_run_that_served_nothing_has_a_report_too(folder, rows):
    fill(folder, rows)
    report.write(folder)
    assert "No request was served." in (folder / "report.md").read_text()


def test_a_folder_that_is_no_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a run.s folder"):
        report.write(tmp_path)
