from dataclasses import replace
from datetime import UTC, datetime

import pytest

from edge_node.admission import Admission
from edge_node.catalog import Catalog
from edge_node.config import LimitsConfig
from protos import tickets
from protos.errors import InvalidRequestError, TicketError, UnknownModelError
from protos.messages import GenerateRequest
from tests import fakes

CATALOG = Catalog([fakes.model("a", max_num_steps=50, default_guidance_scale=2.5)])
REQUEST = GenerateRequest(request_id="r1", model_id="a", prompt="a red circle", num_steps=8)
SECRET = b"secret"


def admission(secret: bytes | None = None) -> Admission:
    return Admission(LimitsConfig(), CATALOG, "edge-0", secret)


def test_what_a_request_leaves_out_is_filled_in():
    job = admission().admit(REQUEST)
    assert job.guidance_scale == 2.5
    assert (job.width_px, job.height_px) == (64, 64)
    assert 0 <= job.seed < 2**32
    assert admission().admit(replace(REQUEST, seed=7, guidance_scale=0.0)).guidance_scale == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, r"num_steps must be 1..50 for model 'a', got 0"),
        ({"num_steps": 1_000_000}, r"num_steps must be 1..50 for model 'a', got 1000000"),
        ({"prompt": "x" * 100_000}, "prompt must have at most 2000 characters, got 100000"),
        ({"negative_prompt": "x" * 2001}, "negative_prompt must have at most 2000 .*, got 2001"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be 0..30, got nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be 0..30, got inf"),
        ({"guidance_scale": -1.0}, "guidance_scale must be 0..30, got -1"),
        ({"rate_bps": 0.0}, "rate_bps must be a positive number, got 0"),
        ({"rate_bps": float("nan")}, "rate_bps must be a positive number, got nan"),
        ({"scheduler": "magic"}, "scheduler must be one of ddim, .*, got 'magic'"),
        ({"request_id": ""}, r"request_id must have 1..128 characters, got 0"),
        ({"request_id": "r" * 129}, r"request_id must have 1..128 characters, got 129"),
        ({"upload_bytes": -1}, "upload_bytes < 0: -1"),
        ({"seed": 2**63}, r"seed must be below 2\*\*63"),
    ],
)
def test_a_refusal_names_the_thing_the_limit_and_the_value(change, message):
    with pytest.raises(InvalidRequestError, match=message):
        admission().admit(replace(REQUEST, **change))


def test_an_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(UnknownModelError, match="'b'; this node's catalog holds: a"):
        admission().admit(replace(REQUEST, model_id="b"))


def ticket(**changes: object) -> bytes:
    claims = tickets.Claims(
        request_id="r1",
        user_id="user-0",
        node_id="edge-0",
        model_id="a",
        num_steps=8,
        rate_bps=1e6,
        expires_unix_s=datetime.now(UTC).timestamp() + 3600,
    )
    return tickets.issue(replace(claims, **changes), SECRET)


GRANTED = replace(REQUEST, rate_bps=1e6)


def test_a_ticket_opens_what_it_grants():
    assert admission(SECRET).admit(replace(GRANTED, ticket=ticket())).num_steps == 8


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (b"", "there is none"),
        (ticket() + b"x", "signature is not this controller's"),
        (ticket(node_id="edge-1"), "grants node_id 'edge-1', the request has 'edge-0'"),
        (ticket(num_steps=4), "grants num_steps 4, the request has 8"),
        (ticket(rate_bps=2e6), "grants rate_bps 2000000.0, the request has 1000000.0"),
        (ticket(request_id="r2"), "grants request_id 'r2'"),
        (ticket(expires_unix_s=1.0), "the ticket of 'r1' expired"),
    ],
)
def test_any_other_ticket_is_refused(shown, message):
    with pytest.raises(TicketError, match=message):
        admission(SECRET).admit(replace(GRANTED, ticket=shown))
