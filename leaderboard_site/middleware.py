"""Middleware: what only pages need is left out for the API, which knows no cookies; security headers go on every answer."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.locale import LocaleMiddleware
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers
from django_htmx.middleware import HtmxMiddleware

from leaderboard_site.time_zones import chosen_zone, zone_of

API_PREFIX = "/api/"
CONSOLE_PREFIX = "/admin/"
# No inline script or style anywhere; data: for the small pictures in the API page's stylesheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=()"


def is_api(request: HttpRequest) -> bool:
    """Whether the request is for the API, which has no session, cookies or CSRF."""
    return request.path_info.startswith(API_PREFIX)


class PagesOnly:
    """Steps aside for the API: its calls carry a token and cost no session, CSRF or message machinery."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        if is_api(request):
            return self.get_response(request)
        return super().__call__(request)  # type: ignore[misc]


class PageSessionMiddleware(PagesOnly, SessionMiddleware):
    pass


class PageLocaleMiddleware(PagesOnly, LocaleMiddleware):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_api(request):
            # A language once activated stays with the thread: the last page's reader must not choose the API's.
            with translation.override(translation.get_language_from_request(request)):
                return self.get_response(request)
        return super().__call__(request)


class PageTimeZoneMiddleware:
    """Show times of pages and of the console in their reader's zone, and read them in it. The API keeps the site's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_api(request):
            return self.get_response(request)
        request.chosen_zone = chosen_zone(request)  # type: ignore[attr-defined]
        with timezone.override(zone_of(request)):
            return self.get_response(request)


class PageCommonMiddleware(PagesOnly, CommonMiddleware):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_api(request):
            request.get_host()  # raises DisallowedHost, as CommonMiddleware does for pages
        return super().__call__(request)


class PageCsrfMiddleware(PagesOnly, CsrfViewMiddleware):
    def process_view(self, request, callback, callback_args, callback_kwargs):
        if is_api(request):
            return None
        return super().process_view(request, callback, callback_args, callback_kwargs)


class PageAuthenticationMiddleware(PagesOnly, AuthenticationMiddleware):
    pass


class PageMessageMiddleware(PagesOnly, MessageMiddleware):
    pass


class PageHtmxMiddleware(PagesOnly, HtmxMiddleware):
    pass


class SecurityHeadersMiddleware:
    """The content security policy and its companions on every answer, errors and static files included."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        if response.status_code == 304:
            # It would be read as the length of what was not sent.
            del response.headers["Content-Length"]
            return response
        if is_api(request):
            response.headers.setdefault("Cache-Control", "no-store")
            # A page's is set by CommonMiddleware. Without it an answer goes out in chunks.
            if isinstance(response, HttpResponse):
                response.headers.setdefault("Content-Length", str(len(response.content)))
        return response


class CorsMiddleware:
    """Lets the pages of ALLOWED_ORIGINS call the API. Without credentials: the API knows tokens and no cookies."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api(request):
            return self.get_response(request)
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        response = HttpResponse(status=204) if is_preflight else self.get_response(request)
        patch_vary_headers(response, ["Origin"])
        origin = request.headers.get("Origin", "")
        if origin and origin in settings.ALLOWED_ORIGINS:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Next-Offset, ETag"
            if is_preflight:
                response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST"
                response.headers["Access-Control-Allow-Headers"] = (
                    "Authorization, Content-Type, Idempotency-Key, If-None-Match"
                )
                response.headers["Access-Control-Max-Age"] = "600"
        return response
