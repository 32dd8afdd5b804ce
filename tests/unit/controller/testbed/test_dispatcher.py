"""Requests through a dispatcher, over a registry that holds what the test says."""

import asyncio
import dataclasses

import pytest

from controller.cell.config import RadioConfig
from controller.cell.dynamics import CAUSES, model_curves, model_table
from controller.cell.radio import RadioCell
from controller.policies.baselines import equal
from controller.record.config import DeadlinesConfig, LimitsConfig, NodeSpec, RunConfig
from controller.record.request_log import RequestLog
from controller.testbed.dispatcher import Dispatcher
from protos import tickets
from protos.errors import DuplicateRequestError, InvalidRequestError
from protos.messages import (
    Grant,
    Outcome,
    Queued,
    Rejection,
    RejectionReason,
    Role,
    Submission,
    Timings,
)
from protos.seeds import stream
from tests.unit.controller.profiles import model, profile

SECRET = b"secret"
CONFIG = RunConfig(
    num_frames=1,
    slots_per_frame=1,
    slot_s=1.0,
    num_users=2,
    nodes=(NodeSpec(attach="127.0.0.1:1"),),
    limits=LimitsConfig(max_pending=2, max_prompt_chars=50),
)


class FakeRegistry:
    """An edge node "e" that holds "a", and a cloud "c" with everything; either may be missing."""

    def __init__(self) -> None:
        self.held = {"a": ["e"]}
        self.has_cloud = True
        self.refreshed: list[str] = []

    def edges(self) -> tuple[str, ...]:
        return ("e", "f")

    def holders(self, model_id: str) -> list[str]:
        return self.held.get(model_id, [])

    def cloud(self, _model_id: str) -> str:
        return "c" if self.has_cloud else ""

    def address(self, node_id: str) -> str:
        return f"{node_id}:1"

    def role(self, node_id: str) -> Role:
        return Role.CLOUD if node_id == "c" else Role.EDGE

    def refresh(self, node_id: str) -> None:
        self.refreshed.append(node_id)


class Bench:
    """A dispatcher with its fake registry, real records and a slot that the test ends."""

    def __init__(self, log: RequestLog, config: RunConfig) -> None:
        self.log, self.registry = log, FakeRegistry()
        cell = RadioCell(RadioConfig(), config.num_users, stream(0, "radio"))
        known = profile(model("a", max_num_steps=10), model("b"))
        models = [model_curves(known, name) for name in ("a", "b")]
        table = model_table(models, config.allocation.max_num_steps)
        self.dispatcher = Dispatcher(config, log, self.registry, cell, table, SECRET)

    def start(self, name: str = "r1", **changes) -> asyncio.Task:
        return asyncio.create_task(self.answers(name, **changes))

    async def answers(self, name: str = "r1", **changes) -> list:
        values = {"user_id": "user-0", "model_id": "a", "prompt": "p"} | changes
        asked = Submission(request_id=name, **({"seed": 1, "upload_bytes": 10} | values))
        return [event async for event in self.dispatcher.submit(asked)]

    async def slot(self) -> None:
        await asyncio.sleep(0)
        self.dispatcher.grant(equal(self.dispatcher.observe(0, 0)))

    async def granted(self, name: str = "r1", **changes) -> Grant:
        task = self.start(name, **changes)
        await self.slot()
        queued, grant = await task
        assert isinstance(queued, Queued)
        return grant


@pytest.fixture
def bench(tmp_path):
    """Return what runs a scenario over a fresh bench and returns its rows."""

    def run(scenario, config: RunConfig = CONFIG):
        async def main():
            with RequestLog(tmp_path / "requests.sqlite") as log:
                await scenario(Bench(log, config))
                return log.rows()

        return asyncio.run(main())

    return run


def outcome(name: str = "r1", **changes) -> Outcome:
    timings = Timings(queue_s=0.1, generate_s=0.4)
    values = {"timings": timings, "wait_s": 0.5, "upload_s": 0.2, "total_s": 2.0, "is_hit": True}
    return Outcome(request_id=name, **(values | changes))


def test_a_hit_is_granted_at_the_edge_and_closed_by_its_users_report(bench):
    async def scenario(b: Bench):
        grant = await b.granted()
        assert (grant.node_id, grant.address, grant.role) == ("e", "e:1", Role.EDGE)
        assert grant.num_steps == 10  # 20 of the slot, 10 of the model
        b.dispatcher.report(outcome(image_bytes=5000))
        await asyncio.wait_for(b.dispatcher.drained(), 5)
        assert [row.request_id for row in b.dispatcher.take_ended()] == ["r1"]
        assert b.dispatcher.take_ended() == ()

    (row,) = bench(scenario)

    assert (row.status, row.node_id, row.is_hit, row.num_tries) == ("served", "e", True, 1)
    # total 2.0 - (0.5 wait + 0.2 upload + 0.1 queue + 0.4 generate)
    assert row.download_s == pytest.approx(0.8)
    assert row.total_s == pytest.approx(sum(getattr(row, cause) for cause in CAUSES))
    # quality at 10 steps, the second knee, is 1: 0.7 * 1 - 0.3 * 2 / 5
    assert (row.quality, row.utility) == pytest.approx((1.0, 0.58))


def test_a_miss_goes_to_the_cloud_with_full_steps_and_is_no_hit(bench):
    async def scenario(b: Bench):
        grant = await b.granted(model_id="b")
        assert (grant.node_id, grant.role, grant.num_steps) == ("c", Role.CLOUD, 20)
        b.dispatcher.report(outcome())

    (row,) = bench(scenario)
    assert (row.role, row.is_hit) == ("cloud", False)


def test_the_ticket_binds_what_was_granted(bench):
    async def scenario(b: Bench):
        grant = await b.granted()
        claims = tickets.verify(grant.ticket, SECRET)
        assert (claims.request_id, claims.node_id, claims.model_id) == ("r1", "e", "a")
        assert (claims.num_steps, claims.rate_bps) == (grant.num_steps, grant.rate_bps)
        assert grant.rate_bps > 0

    bench(scenario)


def test_bandwidth_is_shared_among_those_who_wait(bench):
    async def scenario(b: Bench):
        alone = await b.granted("r1")
        two = [b.start("r2"), b.start("r3", user_id="user-1")]
        await b.slot()
        rates = [(await task)[1].rate_bps for task in two]
        assert 0.5 * alone.rate_bps < rates[0] < alone.rate_bps

    bench(scenario)


def test_a_user_whose_edge_failed_gets_one_more_grant_at_the_cloud(bench):
    async def scenario(b: Bench):
        await b.granted()
        (again,) = await b.answers()
        assert (again.node_id, again.num_steps) == ("c", 10)
        assert b.registry.refreshed == ["e"]
        with pytest.raises(DuplicateRequestError):
            await b.answers()
        b.dispatcher.report(outcome())

    (row,) = bench(scenario)
    assert (row.status, row.role, row.num_tries, row.is_hit) == ("served", "cloud", 2, False)
    assert row.reason == "e did not serve it: sent to the cloud"


def test_without_a_cloud_a_failed_edge_is_the_end(bench):
    async def scenario(b: Bench):
        await b.granted()
        b.registry.has_cloud = False
        (answer,) = await b.answers()
        assert answer.reason is RejectionReason.NO_NODE
        await asyncio.wait_for(b.dispatcher.drained(), 5)

    (row,) = bench(scenario)
    assert (row.status, row.reason) == ("failed", "e did not serve it, no cloud answers")
    assert row.utility == pytest.approx(-0.3)


def test_a_miss_without_a_cloud_is_rejected(bench):
    async def scenario(b: Bench):
        b.registry.has_cloud = False
        answer = await b.granted(model_id="b")
        assert answer.reason is RejectionReason.NO_NODE

    (row,) = bench(scenario)
    assert row.status == "rejected"
    assert "no living node serves 'b'" in row.reason


@pytest.mark.parametrize("changes", [{}, {"user_id": "somebody else"}])
def test_a_request_id_is_good_for_one_request(bench, changes):
    async def scenario(b: Bench):
        waiting = b.start()
        await asyncio.sleep(0)
        with pytest.raises(DuplicateRequestError, match="'r1' was submitted before"):
            await b.answers(**changes)
        await b.slot()
        await waiting
        b.dispatcher.report(outcome())
        with pytest.raises(DuplicateRequestError):
            await b.answers(**changes)

    assert len(bench(scenario)) == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompt": ""}, r"prompt must have 1\.\.50 characters, got 0"),
        ({"prompt": "x" * 100_000}, r"prompt must have 1\.\.50 characters, got 100000"),
        ({"upload_bytes": -1}, "upload_bytes must be .* got -1"),
    ],
)
def test_a_broken_limit_is_refused_by_name_and_recorded(bench, changes, complaint):
    async def scenario(b: Bench):
        with pytest.raises(InvalidRequestError, match=complaint):
            await b.answers(**changes)

    (row,) = bench(scenario)
    assert row.status == "rejected"
    assert len(row.prompt) <= 50


@pytest.mark.parametrize("name", ["", "x" * 129])
def test_a_request_without_a_fit_id_is_refused(bench, name):
    async def scenario(b: Bench):
        with pytest.raises(InvalidRequestError, match=r"must have 1\.\.128 characters"):
            await b.answers(name)

    assert bench(scenario) == []


def test_an_unknown_model_is_rejected_with_the_known_ones(bench):
    async def scenario(b: Bench):
        (answer,) = await b.answers(model_id="z")
        assert answer == Rejection(
            reason=RejectionReason.UNKNOWN_MODEL, detail="no model 'z'; the nodes serve: a, b"
        )

    assert [row.status for row in bench(scenario)] == ["rejected"]


def test_a_full_queue_rejects_and_names_its_limit(bench):
    async def scenario(b: Bench):
        waiting = [b.start(f"r{number}") for number in range(2)]
        await asyncio.sleep(0)
        (answer,) = await b.answers("r2")
        assert answer.reason is RejectionReason.QUEUE_FULL
        assert "max_pending 2, got 2" in answer.detail
        await b.slot()
        await asyncio.gather(*waiting)

    assert [row.status for row in bench(scenario)] == ["open", "open", "rejected"]


def test_a_user_who_leaves_before_the_grant_has_failed(bench):
    async def scenario(b: Bench):
        waiting = b.start()
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await b.slot()

    (row,) = bench(scenario)
    assert (row.status, row.reason) == ("failed", "its user left before the grant")


def test_a_grant_without_a_report_expires(bench):
    short = DeadlinesConfig(grant_s=0.01)

    async def scenario(b: Bench):
        await b.granted()
        await b.dispatcher.drained()
        with pytest.raises(InvalidRequestError, match="'r1' is not running"):
            b.dispatcher.report(outcome())

    (row,) = bench(scenario, dataclasses.replace(CONFIG, deadlines=short))
    assert (row.status, row.reason) == (
        "failed",
        "the grant at e expired: no report within 0.01 s",
    )


def test_the_runs_end_rejects_who_waits_and_who_comes(bench):
    async def scenario(b: Bench):
        waiting = b.start()
        await asyncio.sleep(0)
        b.dispatcher.end()
        assert (await waiting)[1].reason is RejectionReason.RUN_ENDED
        (late,) = await b.answers("r2")
        assert late.reason is RejectionReason.RUN_ENDED

    assert [row.status for row in bench(scenario)] == ["rejected", "rejected"]


def test_closing_ends_what_is_granted_and_unreported(bench):
    async def scenario(b: Bench):
        await b.granted()
        assert b.dispatcher.close("the run was cut short") == 1
        await asyncio.wait_for(b.dispatcher.drained(), 5)

    (row,) = bench(scenario)
    assert (row.status, row.reason) == ("failed", "the run was cut short")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_report_of_impossible_times_is_refused_and_the_request_stays(bench, value):
    async def scenario(b: Bench):
        await b.granted()
        with pytest.raises(InvalidRequestError, match="seconds must be finite and >= 0"):
            b.dispatcher.report(outcome(total_s=value))
        b.dispatcher.report(outcome())

    assert [row.status for row in bench(scenario)] == ["served"]


def test_a_reported_failure_is_recorded_with_its_reason(bench):
    async def scenario(b: Bench):
        await b.granted()
        b.dispatcher.report(outcome(failure="GenerationError: out of luck"))

    (row,) = bench(scenario)
    assert (row.status, row.reason, row.quality) == ("failed", "GenerationError: out of luck", None)


def test_requests_are_counted_by_model_since_the_last_look(bench):
    async def scenario(b: Bench):
        await b.granted("r1")
        await b.granted("r2", model_id="b")
        await b.granted("r3")
        assert b.dispatcher.take_counts().tolist() == [2, 1]
        assert b.dispatcher.take_counts().tolist() == [0, 0]

    bench(scenario)


def test_requests_are_spread_over_the_edges_that_hold_their_model(bench):
    async def scenario(b: Bench):
        b.registry.held = {"a": ["e", "f"]}
        tasks = [b.start(f"r{number}") for number in range(2)]
        await asyncio.sleep(0)
        observed = b.dispatcher.observe(0, 0)
        assert observed.nodes.tolist() == [[0, 1]]
        await b.slot()
        await asyncio.gather(*tasks)

    bench(scenario)


def test_a_user_from_outside_has_the_typical_channel(bench):
    async def scenario(b: Bench):
        tasks = [b.start("r1"), b.start("r2", user_id="visitor-0")]
        await asyncio.sleep(0)
        own, typical = b.dispatcher.observe(0, 0).gains[0]
        cell = b.dispatcher._cell
        assert (own, typical) == (cell.gains[0], cell.typical_gain)
        await b.slot()
        await asyncio.gather(*tasks)

    bench(scenario)


def test_what_waits_for_the_next_slot_is_not_counted_yet(bench):
    async def scenario(b: Bench):
        await b.granted("r1")
        task = b.start("r2", model_id="b")
        await asyncio.sleep(0)
        assert b.dispatcher.take_counts().tolist() == [1, 0]
        await b.slot()
        await task
        assert b.dispatcher.take_counts().tolist() == [0, 1]

    bench(scenario)


def test_a_user_who_leaves_as_the_slot_is_answered_is_recorded_as_that(bench):
    async def scenario(b: Bench):
        task = b.start()
        await asyncio.sleep(0)
        decided = equal(b.dispatcher.observe(0, 0))
        task.cancel()
        b.dispatcher.grant(decided)
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    (row,) = bench(scenario)
    assert (row.status, row.reason) == ("failed", "its user left before the grant")


def test_a_user_id_that_is_too_long_is_refused(bench):
    async def scenario(b: Bench):
        with pytest.raises(InvalidRequestError, match="user_id must have at most 128 characters"):
            await b.answers(user_id="user-" + "9" * 5000)

    (row,) = bench(scenario)
    assert row.status == "rejected"
