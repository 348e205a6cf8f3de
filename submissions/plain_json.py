"""JSON from outside, as PostgreSQL's jsonb can keep it: finite numbers, whole characters, no NUL."""

import json
from typing import Any


def plain_json_bytes(value: Any) -> int:
    """How many bytes the parsed value has as JSON. Raises ValueError, with the rule, for one that cannot be stored."""
    try:
        encoded = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        has_nul = _holds_nul(value)
    except UnicodeEncodeError as error:
        raise ValueError("a text holds half of a character (a lone surrogate)") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if has_nul:
        raise ValueError("a text holds the character NUL")
    return len(encoded)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in str(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_holds_nul(item) for item in value)
