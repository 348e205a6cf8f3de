"""Refuse NUL, which PostgreSQL cannot store, before a view, a query or a file name gets it.

The address and the headers are checked first, a page's form after its CSRF token. JSON bodies have
`accounts.http.BoundedJSONParser`, and the fields of an upload through the API have stricter rules. Lone surrogates come
only in JSON: Django replaces broken UTF-8 in addresses and forms.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _

from accounts.refusals import InvalidInput
from core.names import printable
from leaderboard_site.errors import refused
from leaderboard_site.middleware import is_api

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def refuse_nul(given: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidInput for the first (name, text) that contains NUL."""
    for name, text in given:
        if "\0" in text or "\0" in name:
            raise InvalidInput("invalid", _("must not contain the NUL character."), field=printable(name[:100]))


def form_texts(fields: MultiValueDict, files: MultiValueDict) -> Iterable[tuple[str, str]]:
    """Yield (name, text) of each field of a form, and (name, file name) of each file."""
    yield from ((name, value) for name, values in fields.lists() for value in values)
    yield from ((name, file.name or "") for name, sent in files.lists() for file in sent)


class StorableAddressMiddleware:
    """Refuse NUL in paths, query parameters, cookies and headers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            refuse_nul([("address", request.path_info)])
            if "%00" in (query := request.META.get("QUERY_STRING", "")) or "\0" in query:
                refuse_nul((name, value) for name, values in request.GET.lists() for value in values)
            # A quoted cookie may contain any character, written as an octal number.
            if "\\" in request.META.get("HTTP_COOKIE", ""):
                refuse_nul(request.COOKIES.items())
            refuse_nul((key, value) for key, value in request.META.items() if key.startswith("HTTP_"))
        except InvalidInput as refusal:
            return refused(request, refusal)
        return self.get_response(request)


class StorableFormMiddleware:
    """Refuse NUL in the fields of forms and in the names of their files."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *given: Any) -> HttpResponse | None:
        # Views that are exempt from CSRF read no form, and may read the body in their own way.
        if is_api(request) or request.content_type not in FORMS or getattr(view, "csrf_exempt", False):
            return None
        try:
            refuse_nul(form_texts(request.POST, request.FILES))
        except InvalidInput as refusal:
            return refused(request, refusal)
        except UnreadablePostError:
            return None  # the view meets the same error, and the error page says so
        return None
