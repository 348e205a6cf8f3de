"""The error pages as the site draws them, at addresses of their own: most of them no page can be asked for."""

from collections.abc import Callable
from typing import Any

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.translation import gettext_lazy as _

from accounts.refusals import QuotaExceeded
from accounts.throttle import TOO_MANY_LOGINS
from leaderboard_site import errors


def _maintenance(request: HttpRequest) -> HttpResponse:
    message = _("The site is down for maintenance. Nothing is lost; running jobs go on.")
    return errors._answer(request, 503, message, retry_after=errors.MaintenanceMiddleware.RETRY_AFTER_SECONDS)


def _too_many(request: HttpRequest) -> HttpResponse:
    refusal = QuotaExceeded("too_many_logins", TOO_MANY_LOGINS, retry_after=900)
    return errors._answer(request, 429, refusal, retry_after=900)


DRAWN: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "error-400": errors.bad_request,
    "error-403": errors.permission_denied,
    "error-403-form": errors.csrf_failure,
    "error-404": errors.not_found,
    "error-429": _too_many,
    "error-500": errors.server_error,
    "error-503-database": lambda request: errors.database_away(request, OperationalError("gone")),
    "error-503-maintenance": _maintenance,
}
PAGES = {name: f"/drawn/{name}/" for name in DRAWN}


def answer_by_drawing(context: Any) -> None:
    """Have a browser's context get them, each in the language that it asks for."""

    def fulfil(route: Any) -> None:
        asked = route.request.headers.get("accept-language", "en")
        path = "/" + route.request.url.split("/", 3)[3]
        request = RequestFactory().get(path, headers={"Accept-Language": asked})
        response = DRAWN[path.split("/")[2]](request)
        route.fulfill(status=200, body=response.content, content_type="text/html; charset=utf-8")

    context.route("**/drawn/**", fulfil)
