"""The log format: one JSON line per event, the same in every process."""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

_FIELDS = ("node_id", "request_id", "frame", "slot")


class JsonLines(logging.Formatter):
    """Format a record as one JSON line; ``extra`` may carry node_id, request_id, frame, slot."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def setup(level: str = "INFO", file: Path | None = None) -> None:
    """Send the process's log to ``file``, or to standard error where there is none."""
    handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)  # noqa: FBT003 - the standard library's signature
