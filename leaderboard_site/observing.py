"""The outermost middleware: a request's id on its log lines and its answer, and its count and time for /metrics.

It is on the hot path: a dictionary look-up, a counter and a histogram; nothing is read and nothing waits.
"""

from collections.abc import Callable
from time import perf_counter

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import log_context

HEADER = "X-Request-ID"


class ObservingMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._count: Callable[[HttpRequest, int, float], None] | None = None
        if settings.METRICS:
            # Imported here: who switches metrics off does not pay for the library either.
            from leaderboard_site.metrics.requests import count

            self._count = count

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = perf_counter()
        request_id = log_context.choose_request_id(request.META.get("HTTP_X_REQUEST_ID", ""))
        token = log_context.enter(request_id=request_id)
        try:
            response = self.get_response(request)
        finally:
            log_context.leave(token)
        response.headers[HEADER] = request_id
        if self._count is not None:
            self._count(request, response.status_code, perf_counter() - began)
        return response
