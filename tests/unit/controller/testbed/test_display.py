import asyncio
import dataclasses
import io

from rich.console import Console

from controller.record.request_log import Averages
from controller.testbed.display import Display, Snapshot, line
from protos.messages import NodeSummary, Role, RunStatus

STATUS = RunStatus(
    frame=1,
    num_frames=4,
    slot=2,
    num_served=7,
    num_rejected=1,
    num_failed=2,
    num_open=3,
    mean_utility=0.25,
    nodes=(
        NodeSummary(
            node_id="edge-0",
            address="h:1",
            role=Role.EDGE,
            is_alive=True,
            resident_models=("scene-nano", "scene-base"),
        ),
        NodeSummary(
            node_id="cloud", address="h:2", role=Role.CLOUD, is_alive=False, resident_models=()
        ),
    ),
)
SNAPSHOT = Snapshot(
    status=STATUS,
    averages=Averages(utility=0.25, hit_frac=0.5, total_s=1.5),
    num_slots_per_frame=6,
    has_begun=True,
    left_s=75.2,
)


def shown(snapshot: Snapshot, *, is_terminal: bool) -> str:
    """Return what a console got from a display that was cancelled after a moment."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=120, color_system=None)

    async def scenario():
        task = asyncio.create_task(Display(console).keep_showing(lambda: snapshot))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    return out.getvalue()


def test_a_line_says_where_the_run_is_and_how_it_goes():
    assert line(SNAPSHOT) == (
        "frame 2/4, slot 3/6, 1:15 left: 7 served, 1 rejected, 2 failed, 3 open; hit ratio 50%, "
        "latency 1.50 s, utility 0.250; edge-0 holds scene-nano, scene-base; cloud is lost"
    )


def test_a_refused_caching_decision_is_shown():
    refused = dataclasses.replace(SNAPSHOT, problem="SetCache of frame 1 at edge-0: too large")
    assert line(refused).endswith("; SetCache of frame 1 at edge-0: too large")
    assert "SetCache of frame 1 at edge-0: too large" in shown(refused, is_terminal=True)


def test_before_the_clock_starts_models_are_being_loaded():
    assert line(dataclasses.replace(SNAPSHOT, has_begun=False)).startswith(
        "loading the first models: "
    )


def test_a_pipe_gets_plain_lines_the_last_state_included():
    console = io.StringIO()
    display = Display(Console(file=console, width=60, soft_wrap=True))
    display.say("records in [folder]")
    assert console.getvalue() == "records in [folder]\n"
    text = shown(SNAPSHOT, is_terminal=False)
    assert "\x1b" not in text
    assert text.count("7 served") == 2


def test_a_terminal_gets_a_table_of_numbers_and_nodes():
    text = shown(SNAPSHOT, is_terminal=True)
    for part in ("frame 2/4, slot 3/6, 1:15 left", "hit ratio", "50%", "edge-0", "lost"):
        assert part in text
