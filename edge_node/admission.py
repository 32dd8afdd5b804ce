"""Admission: what a request may ask for.

Responsible for limits, defaults and the ticket; every refusal names the thing, the limit and the
value. Not: whether there is room for it.
"""

import math
import secrets

from edge_node.catalog import Catalog
from edge_node.config import SAMPLERS, LimitsConfig
from edge_node.engine.interface import Job
from protos import tickets
from protos.errors import InvalidRequestError, TicketError
from protos.messages import GenerateRequest, check_request_id

_PROGRESS_S = 0.2
"""Progress goes out five times a second: enough for a moving bar, and each one costs a message."""


class Admission:
    """Turns a request into a job, or refuses it."""

    def __init__(
        self, limits: LimitsConfig, catalog: Catalog, node_id: str, secret: bytes | None
    ) -> None:
        self._limits = limits
        self._catalog = catalog
        self._node_id = node_id
        self._secret = secret

    def admit(self, request: GenerateRequest, deadline_s: float = math.inf) -> Job:
        """Return the job, with the model's defaults filled in.

        Raises:
            UnknownModelError: the catalog does not hold the model.
            InvalidRequestError: a value breaks its limit.
            TicketError: the node needs a ticket and this one does not grant this request.
        """
        check_request_id(request.request_id)
        config = self._catalog.get(request.model_id).config
        limits = self._limits
        for name in ("prompt", "negative_prompt"):
            count, most = len(getattr(request, name)), limits.max_prompt_chars
            _require(count <= most, f"{name} must have at most {most} characters, got {count}")
        _require(
            1 <= request.num_steps <= config.max_num_steps,
            f"num_steps must be 1..{config.max_num_steps} for model {request.model_id!r}, "
            f"got {request.num_steps}",
        )
        check_rate(request.rate_bps)
        _require(request.upload_bytes >= 0, f"upload_bytes < 0: {request.upload_bytes}")
        job = Job.of(
            config,
            request_id=request.request_id,
            prompt=request.prompt,
            num_steps=request.num_steps,
            seed=secrets.randbits(32) if request.seed is None else request.seed,
            guidance_scale=request.guidance_scale,
            negative_prompt=request.negative_prompt,
            scheduler=request.scheduler,
            deadline_s=deadline_s,
            progress_s=_PROGRESS_S,
        )
        _require(
            math.isfinite(job.guidance_scale)
            and 0 <= job.guidance_scale <= limits.max_guidance_scale,
            f"guidance_scale must be 0..{limits.max_guidance_scale:g}, got {job.guidance_scale}",
        )
        _require(
            job.scheduler in ("", *SAMPLERS),
            f"scheduler must be one of {', '.join(SAMPLERS)}, got {job.scheduler[:80]!r}",
        )
        _require(job.seed < 2**63, f"seed must be below 2**63, got {job.seed}")
        self._check_ticket(request)
        return job

    def _check_ticket(self, request: GenerateRequest) -> None:
        if self._secret is None:
            return
        claims = tickets.verify(request.ticket, self._secret)
        bound = ("request_id", "model_id", "num_steps", "rate_bps")
        asked = {name: getattr(request, name) for name in bound} | {"node_id": self._node_id}
        for name, value in asked.items():
            granted = getattr(claims, name)
            if granted != value:
                raise TicketError(
                    f"the ticket grants {name} {granted!r}, the request has {value!r}"
                )


def check_rate(rate_bps: float | None) -> None:
    """Refuse a rate that no transfer can be paced at.

    Raises:
        InvalidRequestError: not a positive finite number.
    """
    _require(
        rate_bps is None or (math.isfinite(rate_bps) and rate_bps > 0),
        f"rate_bps must be a positive number, got {rate_bps}",
    )


def _require(is_fine: bool, complaint: str) -> None:  # noqa: FBT001 - a check, not an option
    if not is_fine:
        raise InvalidRequestError(complaint)
