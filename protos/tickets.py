"""Tickets: what a controller grants and a node checks, signed with a shared secret (HMAC-SHA256).

A ticket is ``base64url(json claims) . base64url(signature)``; it is short-lived and bound to one
request, node, model, step count, rate and user.
"""

import base64
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from protos.errors import TicketError


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a ticket allows."""

    request_id: str
    user_id: str
    node_id: str
    model_id: str
    num_steps: int
    rate_bps: float
    expires_unix_s: float


def issue(claims: Claims, secret: bytes) -> bytes:
    """Return the signed ticket."""
    body = base64.urlsafe_b64encode(msgspec.json.encode(claims))
    return body + b"." + _signature(body, secret)


def verify(ticket: bytes, secret: bytes, now: datetime | None = None) -> Claims:
    """Return the claims of a genuine, unexpired ticket.

    Raises:
        TicketError: missing, forged or expired; the message names which.
    """
    body, _, signature = ticket.partition(b".")
    if not body:
        raise TicketError("this node serves requests with a ticket only, and there is none")
    if not hmac.compare_digest(signature, _signature(body, secret)):
        raise TicketError("the ticket's signature is not this controller's")
    claims = msgspec.json.decode(base64.urlsafe_b64decode(body), type=Claims)
    late_s = (now or datetime.now(UTC)).timestamp() - claims.expires_unix_s
    if late_s > 0:
        raise TicketError(f"the ticket of {claims.request_id!r} expired {late_s:.1f} s ago")
    return claims


def _signature(body: bytes, secret: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(secret, body, "sha256"))
