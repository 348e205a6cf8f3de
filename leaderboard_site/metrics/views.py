"""GET /metrics: for Prometheus alone. With METRICS_TOKEN, or from METRICS_NETWORKS; by default nobody in production."""

import hmac
import ipaddress

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from accounts.throttle import client_address
from leaderboard_site.metrics import requests
from leaderboard_site.metrics.site import SiteCollector

_site = CollectorRegistry()
_site.register(SiteCollector())


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not settings.METRICS:
        raise Http404
    if not (has_token(request) or is_from_inside(request)):
        if settings.METRICS_TOKEN:
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        raise Http404
    content = requests.text() + generate_latest(_site)
    return HttpResponse(content, content_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})


def has_token(request: HttpRequest) -> bool:
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    expected = settings.METRICS_TOKEN.encode()
    is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), expected)
    return bool(expected) and scheme.lower() == "bearer" and is_right


def is_from_inside(request: HttpRequest) -> bool:
    """Whether the client's address is one of METRICS_NETWORKS.

    Behind a proxy that nobody told us of (NUM_PROXIES is 0), everybody would seem to come from the proxy's address.
    """
    if not settings.METRICS_NETWORKS:
        return False
    if not settings.NUM_PROXIES and ("HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META):
        return False
    try:
        address = ipaddress.ip_address(client_address(request))
    except ValueError:
        return False
    return any(address in network for network in settings.METRICS_NETWORKS)
