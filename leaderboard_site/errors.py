"""Every refusal of the API in one shape, `{"code": ..., "message": ...}`; pages get the same words in the site's frame."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from accounts.refusals import RequestRefused, TooLarge
from core.sizes import bytes_beyond, human_bytes
from leaderboard_site.middleware import is_api
from submissions.uploads import FileRule, FilesNotTaken, NoFilesHandler, file_rule

logger = logging.getLogger(__name__)

DATABASE_AWAY = _("The database is not reachable just now. Nothing was stored; try again.")
# Its sender has gone or stalled: nobody's fault here, and no storage's, though it is an OSError.
CUT_SHORT = _("The request ended before it was whole. Nothing was stored.")
TOO_MUCH_SENT = _("What was sent is too large: %(sent)s, at most %(most)s. Nothing was stored.")
_CODES = {
    400: "invalid",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
    431: "bad_header",
    500: "internal",
    503: "unavailable",
}


class HeaderRefused(RequestRefused):
    status = 431


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
    message: str | Promise
    if isinstance(error, RequestRefused):
        status, code, message = error.status, error.code, error.message
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, RequestDataTooBig):
        status, code = 413, "too_large"
        message = _("The body: at most %(most)s.") % {"most": human_bytes(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)}
    elif isinstance(error, UnreadablePostError):
        status, code, message = 400, "invalid", CUT_SHORT
    elif isinstance(error, Http404):
        status, code, message = 404, "not_found", _("No such object, or it is not yours.")
    elif isinstance(error, PermissionDenied):
        status, code, message = 403, "forbidden", _("You may not do this.")
    elif isinstance(error, exceptions.APIException):
        status, code, message = (
            error.status_code,
            _CODES.get(error.status_code, "invalid"),
            _first_message(error.detail),
        )
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, OperationalError | InterfaceError):
        logger.error("database: %s", error)
        status, code, message = 503, "unavailable", DATABASE_AWAY
        headers["Retry-After"] = "10"
    else:
        return None
    set_rollback()
    # One shape, also for who asked for CSV, YAML or the readable page.
    if (request := context.get("request")) is not None:
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    headers["Content-Language"] = translation.get_language() or settings.LANGUAGE_CODE
    return Response({"code": code, "message": str(message)}, status=status, headers=headers)


def _answer(
    request: HttpRequest, status: int, message: object, *, code: str = "", retry_after: int | None = None
) -> HttpResponse:
    """The refusal as JSON for the API, as a page for people; it asks neither the database nor the session.

    The language is the request's own, by cookie and header: an error may come from outside of the locale's middleware.
    """
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    with translation.override(translation.get_language_from_request(request)):
        if is_api(request):
            content = {"code": code or _CODES[status], "message": str(message)}
            return JsonResponse(content, status=status, headers=headers)
        # Whether somebody is signed in is a question to the database; that a browser keeps a session says enough.
        has_session = settings.SESSION_COOKIE_NAME in request.COOKIES
        context = {
            "status": status,
            "message": message,
            "retry_after": retry_after,
            "can_try_again": request.method in ("GET", "HEAD") and status in (429, 500, 503),
            "may_be_hidden": status in (403, 404) and request.method in ("GET", "HEAD") and not has_session,
            "has_session": has_session,
        }
        response = render(request, "error.html", context, status=status)
        for name, value in {
            "Content-Language": translation.get_language(),
            "Cache-Control": "no-store",
            **headers,
        }.items():
            response.headers[name] = value
        return response


def refused(request: HttpRequest, refusal: RequestRefused) -> HttpResponse:
    """Answer a service's refusal that no view has shown."""
    return _answer(request, refusal.status, refusal, code=refusal.code, retry_after=refusal.retry_after)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        return _answer(request, 413, _("What was sent is too large. Nothing was stored."))
    if isinstance(exception, TooManyFieldsSent | TooManyFilesSent):
        return _answer(request, 400, _("The form has too many fields or files. Nothing was stored."))
    return _answer(request, 400, _("The request could not be understood."))


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _answer(request, 403, _("You may not see or do this."))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _answer(request, 404, _("There is nothing here, or it is not yours."))


def bad_header(request: HttpRequest, name: str) -> HttpResponse:
    sentence = _("this header is too long or malformed. Nothing was stored.")
    return refused(request, HeaderRefused("bad_header", sentence, field=name))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _answer(request, 403, _("This form has expired. Go back, reload the page and send it again."))


def database_away(request: HttpRequest, exception: BaseException) -> HttpResponse:
    logger.error("database: %s", exception)
    return _answer(request, 503, DATABASE_AWAY, retry_after=10)


def server_error(request: HttpRequest) -> HttpResponse:
    exception = sys.exc_info()[1]  # Django calls this while it handles the exception
    if isinstance(exception, OperationalError | InterfaceError):
        return database_away(request, exception)
    return _answer(request, 500, _("Something broke on our side. It has been written down; please try again."))


class BodyMiddleware:
    """Decide about a request's body before anything reads it: the check against forgery would already store its files.

    Only views marked by `takes_files` get files, and only from people who may send them. Anonymous clients may send
    little. The API reads bodies after the token and has its own limits.
    """

    MOST_ANONYMOUS_BYTES = 64 * 1024

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        is_form = request.content_type == "multipart/form-data" and not is_api(request)
        rule = file_rule(view) if is_form else None
        if rule is not None and not rule.allows(request.user):
            return redirect_to_login(request.get_full_path())
        announced = request.META.get("CONTENT_LENGTH") or ""
        if announced.isdigit():
            sent, most = int(announced), self._most_bytes(request, view, rule, int(announced))
            if sent > most:
                return refused(
                    request, TooLarge("too_large", TOO_MUCH_SENT, sent=bytes_beyond(sent, most), most=human_bytes(most))
                )
        return self._refuse_files(request) if is_form and rule is None else None

    def _most_bytes(self, request: HttpRequest, view: Any, rule: FileRule | None, announced: int) -> int:
        if rule is not None:
            return rule.most_body_bytes
        if announced <= self.MOST_ANONYMOUS_BYTES:
            return announced
        if is_api(request):
            needs_token = AllowAny not in getattr(getattr(view, "cls", None), "permission_classes", ())
            return announced if needs_token else self.MOST_ANONYMOUS_BYTES
        is_known = request.user.is_authenticated
        return settings.DATA_UPLOAD_MAX_MEMORY_SIZE if is_known else self.MOST_ANONYMOUS_BYTES

    def _refuse_files(self, request: HttpRequest) -> HttpResponse | None:
        request.upload_handlers = [NoFilesHandler(request)]
        try:
            request.POST  # noqa: B018 - read here, so that the refusal becomes an answer
        except FilesNotTaken as refusal:
            return _answer(request, refusal.status, refusal)
        except UnreadablePostError:
            return _answer(request, 400, CUT_SHORT)
        return None


class MaintenanceMiddleware:
    """While MAINTENANCE_FILE exists, everything but the health checks answers 503, with the file's first line."""

    RETRY_AFTER_SECONDS = 300
    LONGEST_NOTICE = 300

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        notice = self._notice()
        if notice is None or request.path_info in ("/healthz", "/readyz"):
            return self.get_response(request)
        message = notice or _("The site is down for maintenance. Nothing is lost; running jobs go on.")
        return _answer(request, 503, message, retry_after=self.RETRY_AFTER_SECONDS)

    def _notice(self) -> str | None:
        try:
            with settings.MAINTENANCE_FILE.open(encoding="utf-8", errors="replace") as file:
                return file.readline(self.LONGEST_NOTICE).strip()
        except OSError:
            return None


class DependencyDownMiddleware:
    """Pages: a refusal that no view has shown, and a database that is away, as what they are (the API has its handler)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # `require_POST` and its like answer without a word.
        if response.status_code == 405 and not response.streaming and not response.content and not is_api(request):
            page = _answer(request, 405, _("This address does not take that kind of request."))
            page.headers["Allow"] = response.headers.get("Allow", "")
            return page
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, RequestRefused):
            return refused(request, exception)
        if isinstance(exception, UnreadablePostError):
            return _answer(request, 400, CUT_SHORT)
        if isinstance(exception, SuspiciousOperation) or not isinstance(exception, OperationalError | InterfaceError):
            return None
        return database_away(request, exception)
