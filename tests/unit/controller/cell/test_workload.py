import numpy as np
import pytest

from controller.cell import workload
from controller.cell.config import WorkloadConfig
from protos.config import ConfigError
from protos.seeds import stream

CONFIG = WorkloadConfig()


def draw(config: WorkloadConfig = CONFIG, seed: int = 0, **changes) -> tuple[workload.Arrival, ...]:
    values = {
        "num_frames": 4,
        "slots_per_frame": 5,
        "num_users": 6,
        "models": ("a", "b", "c"),
        "prompts": ("p", "q"),
    } | changes
    return workload.draw(config, rng=stream(seed, "workload"), **values)


def test_the_same_seed_gives_the_same_requests_and_another_one_others():
    assert draw() == draw()
    assert draw() != draw(seed=1)


def test_requests_come_in_order_of_time_before_their_slots_decision():
    arrivals = draw()
    times = [arrival.slot_index + arrival.offset_frac for arrival in arrivals]
    assert times == sorted(times)
    assert {arrival.slot_index for arrival in arrivals} == set(range(20))
    assert all(0 <= arrival.offset_frac < 0.9 for arrival in arrivals)


def test_a_user_asks_at_most_once_a_slot():
    pairs = [(arrival.slot_index, arrival.user) for arrival in draw()]
    assert len(pairs) == len(set(pairs))


def test_the_request_probability_is_kept():
    assert len(draw(WorkloadConfig(request_probability=1.0))) == 4 * 5 * 6
    with pytest.raises(ValueError, match="request_probability must be > 0 and <= 1, got 0"):
        WorkloadConfig(request_probability=0.0)


def test_no_user_makes_no_request():
    assert draw(num_users=0) == ()


def test_zipf_chances_fall_by_the_power_of_the_rank():
    # 1, 1/4, 1/9 over 49/36
    assert workload.zipf(3, 2.0) == pytest.approx([36 / 49, 9 / 49, 4 / 49])
    assert workload.zipf(4, 0.0) == pytest.approx([0.25] * 4)


def test_the_skew_follows_its_chain():
    config = WorkloadConfig(
        zipf_skews=(0.5, 1.0, 2.0), transitions=((0, 1, 0), (0, 0, 1), (1, 0, 0))
    )
    popularity = workload.Popularity(config, 3, stream(0, "workload"))
    seen = []
    for _ in range(6):
        seen.append(popularity.skew)
        popularity.step()
    start = config.zipf_skews.index(seen[0])
    assert seen == [config.zipf_skews[(start + frame) % 3] for frame in range(6)]


@pytest.mark.parametrize(("drift", "changes"), [(0.0, False), (1.0, True)])
def test_the_ranking_drifts_with_its_probability(drift, changes):
    config = WorkloadConfig(drift_probability=drift, zipf_skews=(1.0,), transitions=((1.0,),))
    popularity = workload.Popularity(config, 5, stream(0, "workload"))
    before = popularity.probabilities
    popularity.step()
    assert (not np.array_equal(before, popularity.probabilities)) == changes
    assert popularity.probabilities.sum() == pytest.approx(1.0)


def test_models_are_asked_for_by_their_popularity():
    config = WorkloadConfig(
        request_probability=1.0, zipf_skews=(1.0,), transitions=((1.0,),), drift_probability=0.0
    )
    arrivals = draw(config, num_users=500, num_frames=1, slots_per_frame=20)
    counts = sorted(sum(a.model_id == name for a in arrivals) for name in "abc")
    # Zipf of skew 1 over three: 6/11, 3/11, 2/11
    assert np.array(counts) / len(arrivals) == pytest.approx([2 / 11, 3 / 11, 6 / 11], abs=0.02)


def test_prompts_skip_comments_and_blank_lines(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("# head\n\n a red circle \na blue square\n")
    assert workload.read_prompts(file) == ("a red circle", "a blue square")


@pytest.mark.parametrize(
    ("text", "complaint"), [(None, "there is no file"), ("# only\n", "holds no prompt")]
)
def test_a_prompt_file_that_gives_none_is_refused(tmp_path, text, complaint):
    file = tmp_path / "prompts.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        workload.read_prompts(file)


def test_the_shipped_prompts_are_held_out_captions_of_the_zoo():
    from edge_node.zoo.worlds.plain import scenes

    rng = stream(0, "live prompts")
    drawn: dict[str, None] = {}
    for count, draw in ((100, scenes.draw_single), (200, scenes.draw_pair)):
        while len(drawn) < count:
            drawn[draw(rng, "held-out").caption] = None
    assert list(workload.read_prompts(CONFIG.prompts)) == list(drawn)
