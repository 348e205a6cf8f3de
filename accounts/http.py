"""How the API reads a JSON body and chooses what to answer in; named in the settings."""

import difflib
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from accounts.refusals import InvalidInput, reason_of
from core.untrusted import Bounds, TextRefused, load_json

# The largest part of a body is a job's config of 64 KiB, and each token takes a byte or more.
BODY = Bounds(bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE, tokens=100_000)


class BoundedJSONParser(JSONParser):
    """JSON within bounds, without characters that the database cannot store. DRF's `strict` option is always on."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        body = stream.read(BODY.bytes + 1)
        if len(body) > BODY.bytes:
            raise RequestDataTooBig
        try:
            return load_json(body, BODY)
        except TextRefused as error:
            sentence = _("The body is not valid JSON (%(why)s).") if error.is_syntax else _("not accepted: %(why)s.")
            raise InvalidInput("invalid", sentence, field=error.place, why=reason_of(error)) from error


class FirstRendererNegotiation(DefaultContentNegotiation):
    """What the client prefers, else what the call has: a log is text though the refusals beside it are JSON."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], renderers[0].media_type


def refuse_unknown_parameters(request: Request, *known: str) -> None:
    """Raise InvalidInput for a query parameter that the call does not have: passed over, a misspelt filter keeps all rows.

    `format` belongs to every call.
    """
    names = [*known, "format"]
    for name in request.query_params:
        if name in names:
            continue
        alike = difflib.get_close_matches(name[:50].lower(), names, n=1)
        if alike:
            sentence = _("%(name)r is no parameter of this call. Did you mean %(alike)s? Known are %(known)s.")
        else:
            sentence = _("%(name)r is no parameter of this call; known are %(known)s.")
        parameters: dict[str, Any] = {"name": name[:50], "known": ", ".join(names)}
        if alike:
            parameters["alike"] = alike[0]
        raise InvalidInput("unknown_parameter", sentence, field="query", **parameters)
