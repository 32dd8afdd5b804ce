"""The one error tree of the project, drawn here, with one status code for each class.

EdgeError                                    (never raised itself)
├── InvalidRequestError   INVALID_ARGUMENT     the request can never succeed as it is
├── UnknownModelError     NOT_FOUND            no catalog entry of that name
├── DuplicateRequestError ALREADY_EXISTS       that request_id is running
├── TicketError           PERMISSION_DENIED    no ticket, a forged one, an expired one
├── NotResidentError      FAILED_PRECONDITION  the model is not loaded
├── ModelTooLargeError    OUT_OF_RANGE         more bytes than the whole budget
├── OverloadedError       RESOURCE_EXHAUSTED   a queue or the memory is full now; later may work
├── ModelLoadError        DATA_LOSS            weights that cannot be read
├── GenerationError       INTERNAL             the engine failed on this request
├── DeadlineError         DEADLINE_EXCEEDED    the caller's deadline passed
├── RequestCancelledError CANCELLED            the caller went away
└── NodeDownError         UNAVAILABLE          nobody answers, or the node drains

Messages name the thing, the limit and the value. Programmers' mistakes stay ValueError, TypeError.
Only this module and wire.py know grpc.StatusCode.
"""

from typing import ClassVar

import grpc


class EdgeError(Exception):
    """An error with a status code, the same class on both sides of the wire."""

    code: ClassVar[grpc.StatusCode]

    def __init_subclass__(cls, *, code: grpc.StatusCode) -> None:
        cls.code = code


class InvalidRequestError(EdgeError, code=grpc.StatusCode.INVALID_ARGUMENT):
    """The request breaks a limit and can never succeed as it is."""


class UnknownModelError(EdgeError, code=grpc.StatusCode.NOT_FOUND):
    """No catalog entry has that name."""


class DuplicateRequestError(EdgeError, code=grpc.StatusCode.ALREADY_EXISTS):
    """A request of that id is running."""


class TicketError(EdgeError, code=grpc.StatusCode.PERMISSION_DENIED):
    """The ticket is missing, forged, expired or for something else."""


class NotResidentError(EdgeError, code=grpc.StatusCode.FAILED_PRECONDITION):
    """The model is not loaded."""


class ModelTooLargeError(EdgeError, code=grpc.StatusCode.OUT_OF_RANGE):
    """The model needs more bytes than the whole budget."""


class OverloadedError(EdgeError, code=grpc.StatusCode.RESOURCE_EXHAUSTED):
    """A queue or the memory is full now; the same request may succeed later."""


class ModelLoadError(EdgeError, code=grpc.StatusCode.DATA_LOSS):
    """The weights cannot be read: truncated, mislabelled, of a refused format."""


class GenerationError(EdgeError, code=grpc.StatusCode.INTERNAL):
    """The engine failed while it worked on this request."""


class DeadlineError(EdgeError, code=grpc.StatusCode.DEADLINE_EXCEEDED):
    """The caller's deadline passed."""


class RequestCancelledError(EdgeError, code=grpc.StatusCode.CANCELLED):
    """The caller cancelled or disconnected."""


class NodeDownError(EdgeError, code=grpc.StatusCode.UNAVAILABLE):
    """Nobody answers at the address, or the node is draining."""


BY_CODE: dict[grpc.StatusCode, type[EdgeError]] = {
    error.code: error for error in EdgeError.__subclasses__()
}
