"""Every refusal of the API in one shape, `{"code": ..., "message": ...}`; pages get the same words in the site's frame."""

import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from accounts.refusals import RequestRefused
from leaderboard_site.middleware import is_api

logger = logging.getLogger(__name__)

_CODES = {
    400: "invalid",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
    429: "throttled",
    500: "internal",
    503: "unavailable",
}


def _first_message(detail: Any, field: str = "") -> str:
    """The first sentence of DRF's nested error detail, with the name of its field."""
    if isinstance(detail, dict) and detail:
        name, inner = next(iter(detail.items()))
        return _first_message(inner, field if name == "non_field_errors" else f"{field}.{name}".strip("."))
    if isinstance(detail, list) and detail:
        return _first_message(detail[0], field)
    return f"{field}: {detail}" if field else str(detail)


def api_exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: translate what services and DRF raise; anything else is a 500 by handler500."""
    headers: dict[str, str] = {}
    if isinstance(error, RequestRefused):
        status, code, message = error.status, error.code, error.message
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, RequestDataTooBig):
        status, code = 413, "too_large"
        message = f"The body: at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."
    elif isinstance(error, Http404):
        status, code, message = 404, "not_found", "No such object, or it is not yours."
    elif isinstance(error, PermissionDenied):
        status, code, message = 403, "forbidden", "You may not do this."
    elif isinstance(error, exceptions.APIException):
        status, code, message = (
            error.status_code,
            _CODES.get(error.status_code, "invalid"),
            _first_message(error.detail),
        )
        if isinstance(error, exceptions.Throttled) and error.wait is not None:
            headers["Retry-After"] = str(int(error.wait) + 1)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, OperationalError | InterfaceError):
        logger.error("database: %s", error)
        status, code, message = (
            503,
            "unavailable",
            "The database is not reachable just now. Nothing was stored; try again.",
        )
        headers["Retry-After"] = "10"
    else:
        return None
    set_rollback()
    # One shape, also for who asked for CSV, YAML or the readable page.
    if (request := context.get("request")) is not None:
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    return Response({"code": code, "message": message}, status=status, headers=headers)


def _answer(request: HttpRequest, status: int, message: str) -> HttpResponse:
    if is_api(request):
        return JsonResponse({"code": _CODES[status], "message": message}, status=status)
    return render(request, "error.html", {"status": status, "message": message}, status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _answer(request, 400, _("The request could not be understood."))


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _answer(request, 403, _("You may not see or do this."))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _answer(request, 404, _("There is nothing here, or it is not yours."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _answer(request, 403, _("This form has expired. Go back, reload the page and send it again."))


def server_error(request: HttpRequest) -> HttpResponse:
    message = _("Something broke on our side. It has been written down; please try again.")
    if is_api(request):
        return JsonResponse({"code": "internal", "message": message}, status=500)
    return HttpResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>500</title><h1>500</h1><p>{message}</p></html>',
        status=500,
    )


class DependencyDownMiddleware:
    """Pages: a refusal that no view has shown, and a database that is away, as what they are (the API has its handler)."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request: HttpRequest):
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, RequestRefused):
            response = _answer(request, exception.status, exception.message)
            if exception.retry_after is not None:
                response.headers["Retry-After"] = str(exception.retry_after)
            return response
        if isinstance(exception, SuspiciousOperation) or not isinstance(exception, OperationalError | InterfaceError):
            return None
        logger.error("database: %s", exception)
        if is_api(request):
            return JsonResponse(
                {"code": "unavailable", "message": "The database is not reachable just now."}, status=503
            )
        return HttpResponse(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>503</title><h1>503</h1>'
            "<p>The database is not reachable just now. Please try again in a minute.</p></html>",
            status=503,
            headers={"Retry-After": "10"},
        )
