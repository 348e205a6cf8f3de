"""Requests by method, route and status, and their time by route; counted in every web process.

Several gunicorn processes share the count through files in PROMETHEUS_MULTIPROC_DIR (leaderboard_site/gunicorn_hooks.py sets it); one
process alone keeps it in memory. The route is the URL pattern, never the path: paths are without number, and hold ids.
"""

import fcntl
import os

from django.conf import settings
from django.http import HttpRequest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from leaderboard_site.metrics.sharing import FOLDER, locked

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STATIC, UNKNOWN = "(static)", "(unknown)"

_here = CollectorRegistry()
_requests = Counter(
    "leadersboard_http_requests", "Requests answered.", ["method", "route", "status"], registry=_here
)  # fmt: skip
_seconds = Histogram(
    "leadersboard_http_request_seconds",
    "Seconds until the answer began.",
    ["route"],
    buckets=SECONDS,
    registry=_here,
)
# `labels()` checks and joins its arguments each time; the pairs are few.
_counters: dict[tuple[str, str, int], Counter] = {}
_histograms: dict[str, Histogram] = {}


def count(request: HttpRequest, status: int, seconds: float) -> None:
    """Count an answered request."""
    add(str(request.method) if request.method in METHODS else "OTHER", route_of(request), status, seconds)


def add(method: str, route: str, status: int, seconds: float) -> None:
    key = (method, route, status)
    counter = _counters.get(key)
    if counter is None:
        counter = _counters[key] = _requests.labels(*key)
    counter.inc()
    histogram = _histograms.get(route)
    if histogram is None:
        histogram = _histograms[route] = _seconds.labels(route)
    histogram.observe(seconds)


def route_of(request: HttpRequest) -> str:
    """The URL pattern that answered; what matched none is one route, whatever strangers ask for."""
    match = request.resolver_match
    if match is not None:
        return f"/{match.route}"
    return STATIC if request.path_info.startswith(settings.STATIC_URL) else UNKNOWN


def text() -> bytes:
    """The counts of this process, or of all that share the folder."""
    if FOLDER not in os.environ:
        return generate_latest(_here)
    shared = CollectorRegistry()
    MultiProcessCollector(shared)
    with locked(fcntl.LOCK_SH):
        return generate_latest(shared)
