import asyncio
import dataclasses
import hashlib

import pytest

from controller.testbed.users import fetch
from protos.errors import GenerationError
from protos.messages import (
    Accepted,
    Done,
    GenerateRequest,
    Grant,
    ImageChunk,
    Role,
    Submission,
    Timings,
)

DATA = b"image" * 100
DONE = Done(
    timings=Timings(generate_s=1.0),
    media_type="image/png",
    total_bytes=len(DATA),
    sha256=hashlib.sha256(DATA).hexdigest(),
    width_px=64,
    height_px=64,
)
EVENTS = (
    Accepted(seed=1, queue_depth=0, is_hit=True),
    ImageChunk(offset_bytes=0, total_bytes=500, data=DATA[:300]),
    ImageChunk(offset_bytes=300, total_bytes=500, data=DATA[300:]),
    DONE,
)
ASKED = Submission(request_id="r1", user_id="u", model_id="a", prompt="p", seed=7, upload_bytes=600)
GRANT = Grant(
    node_id="e",
    address="e:1",
    role=Role.EDGE,
    num_steps=5,
    rate_bps=1e6,
    upload_rate_bps=1e6,
    ticket=b"t",
)


class ScriptedNode:
    """Answers Generate with given events and keeps the request."""

    def __init__(self, *events) -> None:
        self.events = events
        self.request: GenerateRequest | None = None

    async def generate(self, request: GenerateRequest, **_):
        self.request = request
        for event in self.events:
            yield event


def test_an_image_is_put_together_and_the_grant_is_passed_on():
    node = ScriptedNode(*EVENTS)

    fetched = asyncio.run(fetch(node, ASKED, GRANT, 1.0))

    assert (fetched.data, fetched.done, fetched.is_hit) == (DATA, DONE, True)
    assert node.request == GenerateRequest(
        request_id="r1",
        model_id="a",
        prompt="p",
        num_steps=5,
        seed=7,
        rate_bps=1e6,
        ticket=b"t",
        upload_bytes=600,
    )


def test_bytes_that_are_not_those_announced_are_refused():
    forged = dataclasses.replace(DONE, sha256="0" * 64)
    with pytest.raises(GenerationError, match="image of sha256 0000"):
        asyncio.run(fetch(ScriptedNode(*EVENTS[:-1], forged), ASKED, GRANT, 1.0))


def test_a_stream_that_ends_early_is_refused():
    with pytest.raises(GenerationError, match="e ended the image of 'r1' early"):
        asyncio.run(fetch(ScriptedNode(*EVENTS[:-1]), ASKED, GRANT, 1.0))
