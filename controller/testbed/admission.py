"""What a submission may ask for. Every refusal names the thing, the limit and the value."""

from controller.record.config import LimitsConfig
from protos.messages import MAX_ID_CHARS, Submission


def broken_limit(submission: Submission, limits: LimitsConfig) -> str:
    """Return which limit a submission breaks, or an empty string."""
    length = len(submission.user_id)
    if length > MAX_ID_CHARS:
        return f"user_id must have at most {MAX_ID_CHARS} characters, got {length}"
    length = len(submission.prompt)
    if not 1 <= length <= limits.max_prompt_chars:
        return f"prompt must have 1..{limits.max_prompt_chars} characters, got {length}"
    size = submission.upload_bytes
    if not 0 <= size <= limits.max_upload_bytes:
        return f"upload_bytes must be 0..{limits.max_upload_bytes}, got {size}"
    return ""
