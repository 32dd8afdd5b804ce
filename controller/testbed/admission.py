"""What a submission may ask for. Every refusal names the thing, the limit and the value."""

from controller.record.config import LimitsConfig
from protos.errors import InvalidRequestError
from protos.messages import Submission

MAX_ID_CHARS = 128


def check_id(request_id: str) -> None:
    """Refuse an id under which nothing could be recorded.

    Raises:
        InvalidRequestError: empty or too long.
    """
    if not 0 < len(request_id) <= MAX_ID_CHARS:
        raise InvalidRequestError(
            f"request_id must have 1..{MAX_ID_CHARS} characters, got {len(request_id)}"
        )


def broken_limit(submission: Submission, limits: LimitsConfig) -> str:
    """Return which limit a submission breaks, or an empty string."""
    length = len(submission.prompt)
    if not 1 <= length <= limits.max_prompt_chars:
        return f"prompt must have 1..{limits.max_prompt_chars} characters, got {length}"
    size = submission.upload_bytes
    if not 0 <= size <= limits.max_upload_bytes:
        return f"upload_bytes must be 0..{limits.max_upload_bytes}, got {size}"
    return ""
