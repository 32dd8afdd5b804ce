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


class InvalidRequestError(EdgeError):
    """The request breaks a limit and can never succeed as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class UnknownModelError(EdgeError):
    """No catalog entry has that name."""

    code = grpc.StatusCode.NOT_FOUND


class DuplicateRequestError(EdgeError):
    """A request of that id is running."""

    code = grpc.StatusCode.ALREADY_EXISTS


class TicketError(EdgeError):
    """The ticket is missing, forged, expired or for something else."""

    code = grpc.StatusCode.PERMISSION_DENIED


class NotResidentError(EdgeError):
    """The model is not loaded."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class ModelTooLargeError(EdgeError):
    """The model needs more bytes than the whole budget."""

    code = grpc.StatusCode.OUT_OF_RANGE


class OverloadedError(EdgeError):
    """A queue or the memory is full now; the same request may succeed later."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class ModelLoadError(EdgeError):
    """The weights cannot be read: truncated, mislabelled, of a refused format."""

    code = grpc.StatusCode.DATA_LOSS


class GenerationError(EdgeError):
    """The engine failed while it worked on this request."""

    code = grpc.StatusCode.INTERNAL


class DeadlineError(EdgeError):
    """The caller's deadline passed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class RequestCancelledError(EdgeError):
    """The caller cancelled or disconnected."""

    code = grpc.StatusCode.CANCELLED


class NodeDownError(EdgeError):
    """Nobody answers at the address, or the node is draining."""

    code = grpc.StatusCode.UNAVAILABLE


BY_CODE: dict[grpc.StatusCode, type[EdgeError]] = {
    error.code: error for error in EdgeError.__subclasses__()
}
