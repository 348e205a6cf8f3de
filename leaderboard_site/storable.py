"""Refuse text that PostgreSQL cannot store, NUL, before any view, lookup or file name meets it.

The address and the headers are looked at first of all, a page's form once its CSRF token is checked. JSON bodies have
`accounts.http.BoundedJSONParser`; the fields of an upload by the API have stricter rules of their own. Lone surrogates
come in JSON alone: Django replaces broken UTF-8 in addresses and forms.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _

from accounts.refusals import InvalidInput
from leaderboard_site.errors import refused
from leaderboard_site.middleware import is_api

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def refuse_nul(given: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidInput for the first of (name, text) that holds NUL."""
    for name, text in given:
        if "\0" in text or "\0" in name:
            raise InvalidInput("invalid", _("holds the character NUL."), field=ascii(name)[1:-1][:100])


def form_texts(fields: MultiValueDict, files: MultiValueDict) -> Iterable[tuple[str, str]]:
    """(name, text) of each field of a form, and of each file its name."""
    yield from ((name, value) for name, values in fields.lists() for value in values)
    yield from ((name, file.name or "") for name, sent in files.lists() for file in sent)


class StorableAddressMiddleware:
    """Paths, query parameters, cookies and headers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            refuse_nul([("address", request.path_info)])
            if "%00" in (query := request.META.get("QUERY_STRING", "")) or "\0" in query:
                refuse_nul((name, value) for name, values in request.GET.lists() for value in values)
            # A cookie in quotes may hold any character, written as an octal number.
            if "\\" in request.META.get("HTTP_COOKIE", ""):
                refuse_nul(request.COOKIES.items())
            refuse_nul((key, value) for key, value in request.META.items() if key.startswith("HTTP_"))
        except InvalidInput as refusal:
            return refused(request, refusal)
        return self.get_response(request)


class StorableFormMiddleware:
    """The fields of forms, and the names of their files."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *given: Any) -> HttpResponse | None:
        # What is exempt from CSRF reads no form, and may read its body in a way of its own.
        if is_api(request) or request.content_type not in FORMS or getattr(view, "csrf_exempt", False):
            return None
        try:
            refuse_nul(form_texts(request.POST, request.FILES))
        except InvalidInput as refusal:
            return refused(request, refusal)
        except UnreadablePostError:
            return None  # the view meets it again, and the error page says so
        return None
