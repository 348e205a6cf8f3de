"""The secret with which the proxy, the publisher and the checks reach MLflow's server."""

import base64
import os
from urllib.parse import unquote, urlsplit

from django.conf import settings


def authorization() -> dict[str, str]:
    """Return the header for MLflow, from the address, the settings or MLFLOW_TRACKING_TOKEN, as MLflow's client finds them."""
    address = urlsplit(settings.MLFLOW_TRACKING_URI)
    if address.username:
        return _basic(unquote(address.username), unquote(address.password or ""))
    if settings.MLFLOW_TRACKING_PASSWORD:
        return _basic(settings.MLFLOW_TRACKING_USERNAME, settings.MLFLOW_TRACKING_PASSWORD)
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def url() -> str:
    """Return MLflow's address without the secret that may be part of it."""
    address = urlsplit(settings.MLFLOW_TRACKING_URI)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"


def set_for_client() -> None:
    """Put the secret into this process's environment, where MLflow's own client looks for it."""
    if settings.MLFLOW_TRACKING_PASSWORD:
        os.environ["MLFLOW_TRACKING_USERNAME"] = settings.MLFLOW_TRACKING_USERNAME
        os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.MLFLOW_TRACKING_PASSWORD


def _basic(username: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}
