"""The access log without secrets: a token that somebody put into an address is crossed out."""

import re
from typing import Any

from gunicorn.glogging import Logger

# As accounts.models makes them; also percent-encoded, or cut.
_TOKEN = re.compile(r"lb(?:_|%5[Ff])[A-Za-z0-9_%-]{6,}")


def without_tokens(text: str) -> str:
    return _TOKEN.sub("lb_...", text)


class AccessLogger(Logger):  # type: ignore[misc]
    """gunicorn's own, but for what it hands on of a request."""

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return {
            key: without_tokens(value) if isinstance(value, str) and "lb" in value else value
            for key, value in atoms.items()
        }
