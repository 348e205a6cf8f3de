"""One JSON object a log line (LOG_FORMAT=json), for machines that collect logs."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from accounts.masking import MaskingFormatter, mask_secrets


def _json(line: dict[str, Any]) -> str:
    """Return one JSON object. Values are masked before they are quoted, so that no mask removes a quotation mark."""
    masked = {name: mask_secrets(value) if isinstance(value, str) else value for name, value in line.items()}
    return json.dumps(masked, ensure_ascii=False, default=lambda value: mask_secrets(str(value)))


class JsonFormatter(MaskingFormatter):
    """`time level logger message process` and what the piece of work carries; `exception` when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, "context", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


class JsonAccessFormatter(MaskingFormatter):
    """gunicorn's access log: what it hands over as the line's arguments. The path without its query, which may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        given: dict[str, Any] = record.args if isinstance(record.args, dict) else {}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": f"{given.get('m')} {given.get('U')} {given.get('s')}",
            "process": record.process,
            "address": given.get("h"),
            "method": given.get("m"),
            "path": given.get("U"),
            "status": int(given.get("s") or 0),
            "bytes": given.get("B"),
            "seconds": float(given.get("L") or 0),
            "request_id": given.get("{x-request-id}o", ""),
        }
        return _json(line)
