"""MLflow's server behind a secret: `mlflow server --app-name leadersboard`.

MLflow finds this app plugin by the entry point in the folder next to this file, which is on PYTHONPATH. Every request must
carry the secret as the password of HTTP basic authentication, as MLflow's client and the site send it from
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Only `/health` answers without it. The standard library is enough;
MLflow itself is imported when the server begins, not by the process that starts it.
"""

import base64
import hmac
import os
from pathlib import Path
from typing import Any

OPEN_PATH = "/health"


def create_app() -> "SecretRequired":
    """Return MLflow's ASGI application, closed to everyone without the secret."""
    from mlflow.server.fastapi_app import app

    return SecretRequired(app, expected_header())


def expected_header() -> bytes:
    path = os.environ.get("MLFLOW_TRACKING_PASSWORD_FILE")
    password = Path(path).read_text().strip() if path else os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if not password:
        raise SystemExit(
            "MLflow: set MLFLOW_TRACKING_PASSWORD_FILE (or MLFLOW_TRACKING_PASSWORD); it must not be empty."
        )
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or "leadersboard"
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


class SecretRequired:
    """Middleware in front of all of MLflow's routes and other middleware."""

    def __init__(self, app: Any, header: bytes) -> None:
        self.app = app
        self.header = header

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or self._is_allowed(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"www-authenticate", b'Basic realm="MLflow"'), (b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"MLflow: the secret is missing or wrong.\n"})

    def _is_allowed(self, scope: Any) -> bool:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == OPEN_PATH:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self.header)
