"""The order of a device's turns, with a device that has a time of its own and no nets."""

import gc
import math
import weakref
from collections import defaultdict
from itertools import pairwise

import pytest
import torch

from edge_node.engine.denoising import is_guided, texts_of
from edge_node.engine.interface import ImageDone, Started, StepDone
from edge_node.engine.step_batcher import Stage, StepBatcher
from edge_node.engine.stepping.turns import TurnRequest, Turns
from protos.errors import GenerationError, OverloadedError
from tests.fake_family import FakeFamily, fake_model
from tests.fakes import job

CALL_S = {"encode": 3.0, "denoise": 5.0, "decode": 2.0}


class Device:
    """Turns over fake models; ``log`` holds what is launched, waited for and told, in order."""

    def __init__(self, *, runs_ahead=False, models=("m",), **limits):
        self.runs_ahead = runs_ahead
        self.launched_s = 0.0
        self.log = []
        self.told = defaultdict(list)
        self.on_launch = self.on_wait = lambda *_: None
        self.models = {name: fake_model(FakeFamily(self._launch)) for name in models}
        most = {Stage.TEXT: 16, Stage.STEP: 16, Stage.IMAGE: 4}
        most |= {Stage[name.upper()]: size for name, size in limits.items()}
        self.limits = {name: dict(most) for name in models}
        self.batcher = StepBatcher()
        self.turns = Turns(
            torch.device("cpu"), self, self.batcher, self.models, self.limits, self._post
        )

    def join(self, seed=0, model_id="m", **changes) -> TurnRequest:
        family, one = self.models[model_id].family, job(seed, model_id, **changes)
        request = TurnRequest(
            model_id=model_id,
            batch_size=2 if is_guided(family, one) else 1,
            num_steps=one.num_steps,
            deadline_s=math.inf,
            job=one,
            texts=texts_of(family, one),
        )
        self.turns.join(request)
        return request

    def run(self):
        while self.turns.turn():
            pass

    def calls(self, *names):
        return [(name, size) for name, size in self.log if name in names]

    def _launch(self, name, held):
        self.on_launch(name, held)
        self.log.append((name, len(held)))
        self.launched_s += CALL_S[name]

    def _post(self, told):
        for request, event in told:
            self.log.append(("told", event))
            self.told[request].append(event)

    # The clock.

    def mark(self):
        return self.launched_s

    def wait_s(self, begun, ended):
        self.on_wait(begun, ended)
        self.log.append(("waited", ended))
        return ended - begun


def index(log, *entry):
    return log.index(entry)


def test_events_of_a_step_are_told_while_the_next_one_runs_and_before_the_one_after_it():
    device = Device(runs_ahead=True)
    device.join(num_steps=8, guidance_scale=1.0)

    device.run()

    launches = [i for i, (name, _) in enumerate(device.log) if name == "denoise"]
    told = [index(device.log, "told", StepDone(step)) for step in range(1, 9)]
    first_s = CALL_S["encode"] + CALL_S["denoise"]
    done = [index(device.log, "waited", first_s + CALL_S["denoise"] * k) for k in range(8)]
    for k in range(7):
        assert launches[k + 1] < done[k] < told[k]
    for k in range(6):
        assert told[k] < launches[k + 2]
    for k in range(2, 8):  # never more than one step ahead of what is known to be done
        assert sum(i < launches[k] for i in done) == k - 1


def test_without_run_ahead_a_steps_events_are_told_before_the_next_one():
    device = Device()
    device.join(num_steps=8, guidance_scale=1.0)

    device.run()

    launches = [i for i, (name, _) in enumerate(device.log) if name == "denoise"]
    told = [index(device.log, "told", StepDone(step)) for step in range(1, 9)]
    assert all(launches[k] < told[k] for k in range(8))
    assert all(told[k] < launches[k + 1] for k in range(7))


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_the_next_inputs_are_ready_before_anybody_waits_for_the_device(runs_ahead):
    device = Device(runs_ahead=runs_ahead)
    request = device.join(num_steps=5, scheduler="euler_ancestral")  # the last step draws none
    ready = []
    device.on_wait = lambda *_: ready.append(
        request.trajectory is not None and request.trajectory.noise is not None
    )

    device.turns.turn()
    device.turns.turn()

    assert all(ready)
    assert ready


def test_nothing_is_left_untold_when_there_is_no_more_to_launch():
    device = Device(runs_ahead=True)
    requests = [device.join(seed, num_steps=1 + seed % 3) for seed in range(9)]

    device.run()

    for request in requests:
        started, *steps, image = device.told[request]
        assert isinstance(started, Started)
        assert steps == [StepDone(step) for step in range(1, request.num_steps + 1)]
        assert isinstance(image, ImageDone)
    assert not list(device.batcher)


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_between_two_steps_others_encode_and_decode_one_call_each(runs_ahead):
    device = Device(runs_ahead=runs_ahead, text=2, image=1)
    device.join(99, num_steps=60, guidance_scale=1.0)
    device.turns.turn()
    device.log.clear()

    for seed in range(24):
        device.join(seed, prompt=f"{seed} circles", num_steps=1 + seed % 3)
        if seed % 6 == 5:  # six come at once
            device.turns.turn()
    device.run()

    calls = device.calls("encode", "denoise", "decode")
    steps = [i for i, (name, _) in enumerate(calls) if name == "denoise"]
    assert len(steps) == 59  # the long request took part in each
    for before, after in pairwise(steps):
        between = calls[before + 1 : after]
        assert sum(name == "encode" for name, _ in between) <= 1
        assert sum(name == "decode" for name, _ in between) <= 1
    assert max(size for name, size in calls if name == "encode") == 2
    assert max(size for name, size in calls if name == "decode") == 1
    assert sum(name == "decode" for name, _ in calls) == 25


def test_who_waits_for_decoding_takes_no_place_in_a_step():
    device = Device(step=2, image=1)
    for seed in range(6):
        device.join(seed, num_steps=1, guidance_scale=1.0)

    for _ in range(3):
        device.turns.turn()

    assert device.calls("denoise", "decode") == [("denoise", 2), ("decode", 1)] * 3
    device.run()
    assert device.calls("decode") == [("decode", 1)] * 6


def test_a_request_whose_texts_do_not_fit_in_a_call_takes_two_and_nobody_waits_longer():
    device = Device(text=1)
    guided = device.join(1, negative_prompt="yellow", num_steps=1)
    plain = device.join(2, prompt="green", guidance_scale=1.0, num_steps=3)

    device.run()

    assert device.calls("encode") == [("encode", 1)] * 3
    assert [type(device.told[one][-1]) for one in (guided, plain)] == [ImageDone] * 2


def test_texts_known_from_before_are_not_encoded_again():
    device = Device()
    device.join(1, num_steps=2)
    device.run()

    device.join(2, num_steps=2)
    device.join(3, prompt="a blue square", num_steps=2)
    device.run()

    assert device.calls("encode") == [("encode", 2), ("encode", 1)]


def test_an_image_has_the_device_time_of_its_calls_encoding_and_decoding_too():
    device = Device(runs_ahead=True)
    request = device.join(num_steps=4)
    device.run()
    assert device.told[request][-1].device_s == 3.0 + 4 * 5.0 + 2.0

    device = Device(runs_ahead=True, image=2)
    requests = [
        device.join(seed, num_steps=3, guidance_scale=1.0 + seed % 2, prompt=f"{seed} circles")
        for seed in range(3)
    ]
    device.run()
    used_s = [device.told[one][-1].device_s for one in requests]
    assert sum(used_s) == pytest.approx(device.launched_s)
    # Texts 1, 2, 1 of a call; samples 1, 2, 1 of three; images 1, 1 of one call, 1 of another.
    expected = [3 / 4 + 15 / 4 + 1, 3 / 2 + 15 / 2 + 1, 3 / 4 + 15 / 4 + 2]
    assert used_s == pytest.approx(expected)


def test_encoding_and_decoding_count_where_models_take_turns(monkeypatch):
    monkeypatch.setitem(CALL_S, "decode", 100.0)
    device = Device(models=("images", "steps"))
    device.join(1, "images", num_steps=1)
    device.join(2, "images", num_steps=50)
    device.join(3, "steps", num_steps=50, guidance_scale=1.0)

    for _ in range(16):
        device.turns.turn()

    # The first turn takes 108 s for 50 steps granted, the other model's 8 s once and then 5 s.
    assert device.calls("denoise", "decode") == [
        ("denoise", 4),
        ("decode", 1),
        *[("denoise", 1)] * 15,
    ]


def test_memory_that_is_short_for_images_makes_calls_of_images_smaller_and_loses_nobody():
    device = Device()

    def full(name, held):
        if name == "decode" and len(held) > 2:
            raise torch.OutOfMemoryError("no memory")

    device.on_launch = full
    requests = [device.join(seed, num_steps=2) for seed in range(8)]
    device.run()

    assert device.limits["m"] == {Stage.TEXT: 16, Stage.STEP: 16, Stage.IMAGE: 2}
    assert [type(device.told[one][-1]) for one in requests] == [ImageDone] * 8
    assert device.calls("decode")[-2:] == [("decode", 2)] * 2


def test_memory_that_is_short_for_one_is_told_to_that_one():
    device = Device()

    def full(name, held):
        if name == "encode" and "green" in held:
            raise torch.OutOfMemoryError("no memory")

    device.on_launch = full
    first, second = device.join(1, prompt="green"), device.join(2, prompt="blue")
    device.run()

    assert isinstance(device.told[first][-1], OverloadedError)
    assert isinstance(device.told[second][-1], ImageDone)
    assert not list(device.batcher)


def test_what_breaks_after_its_launch_is_told_to_those_it_was_for():
    device = Device(runs_ahead=True)
    first = device.join(1, num_steps=3)
    device.turns.turn()

    def broken(*_):
        raise RuntimeError("an illegal access")

    device.on_wait = broken
    device.turns.turn()
    device.on_wait = lambda *_: None
    second = device.join(2, num_steps=3)
    device.run()

    errors = [event for event in device.told[first] if isinstance(event, GenerationError)]
    assert "an illegal access" in str(errors[0])
    assert isinstance(device.told[second][-1], ImageDone)


def test_inputs_that_cannot_be_made_ahead_are_made_in_the_step(monkeypatch):
    device = Device()
    request = device.join(1, num_steps=4, scheduler="euler_ancestral")
    device.turns.turn()
    randn = torch.randn
    calls = []

    def full(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise MemoryError("no memory")
        return randn(*args, **options)

    monkeypatch.setattr(torch, "randn", full)
    device.run()

    assert isinstance(device.told[request][-1], ImageDone)
    assert len(calls) > 1


def test_a_model_that_goes_leaves_nothing_untold_and_nothing_behind():
    device = Device(runs_ahead=True)
    request = device.join(1, num_steps=1)
    device.turns.turn()
    assert device.told[request][1:] == []

    device.turns.forget("m")

    assert isinstance(device.told[request][-1], ImageDone)
    assert not list(device.models["m"].texts)
    device.join(2, num_steps=1)
    device.run()
    assert device.calls("encode") == [("encode", 2)] * 2


@pytest.mark.parametrize("ends", ["finished", "left"])
def test_an_idle_model_holds_nothing_of_its_last_requests(ends):
    device = Device(models=("idle", "busy"))
    request = device.join(1, "idle", num_steps=1 if ends == "finished" else 9)
    device.turns.turn()
    held = weakref.ref(request.trajectory.state)
    if ends == "left":
        device.batcher.leave(request)
    else:
        device.join(2, "busy", num_steps=9)
    device.turns.turn()

    device.told.clear()
    del request
    gc.collect()

    assert held() is None


def test_who_has_left_is_not_launched_again():
    device = Device(runs_ahead=True)
    request = device.join(1, num_steps=9)
    device.turns.turn()

    device.batcher.leave(request)
    device.run()

    assert device.calls("denoise", "decode") == [("denoise", 2)]
