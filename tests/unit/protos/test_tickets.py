from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import TicketError
from protos.tickets import Claims, issue, verify

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLAIMS = Claims(
    request_id="r1",
    user_id="user-0",
    node_id="edge-0",
    model_id="scene-base",
    num_steps=20,
    rate_bps=123456.789,
    expires_unix_s=NOW.timestamp() + 10,
)


def test_what_is_issued_is_verified_to_the_bit():
    assert verify(issue(CLAIMS, b"key"), b"key", NOW) == CLAIMS


def test_another_key_signs_nothing():
    with pytest.raises(TicketError, match="not this controller's"):
        verify(issue(CLAIMS, b"other"), b"key", NOW)


def test_it_expires():
    late = datetime(2026, 1, 1, 0, 0, 11, tzinfo=UTC)
    with pytest.raises(TicketError, match=r"expired 1.0 s ago"):
        verify(issue(CLAIMS, b"key"), b"key", late)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_passes(position, flip):
    ticket = bytearray(issue(CLAIMS, b"key"))
    ticket[position % len(ticket)] ^= flip
    with pytest.raises(TicketError):
        verify(bytes(ticket), b"key", NOW)


@given(st.binary(max_size=200))
def test_no_noise_passes(noise):
    with pytest.raises(TicketError):
        verify(noise, b"key", NOW)
