"""Refusals in the OpenAPI schema: one shape everywhere, with the codes of each status."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse

from accounts.refusal_codes import API_CODES

_MEANINGS = {
    400: "Something in the request is not as it must be.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "You may see it, but not do this.",
    404: "No such object, or it is not yours.",
    409: "The object's state does not allow it.",
    410: "Its owner has deleted it.",
    411: "The body's length must be announced.",
    413: "The body is too large: files 100 MiB, JSON 1 MiB.",
    415: "The body is of another media type than the call takes.",
    429: "A quota is used up; Retry-After says when to come back.",
    503: "A part that this needs is down; nothing was stored.",
}


def refusals(*statuses: int) -> dict[int, Any]:
    """Return the refusals of a call, for `extend_schema(responses=...)`."""
    return {status: OpenApiResponse(_shape(status), description=_MEANINGS[status]) for status in statuses}


def _shape(status: int) -> dict[str, Any]:
    said = "A sentence for people: which field, which rule, which value."
    code = {"type": "string", "enum": list(API_CODES[status]), "description": "Stable, for programs."}
    return {
        "type": "object",
        "description": "What every error looks like.",
        "required": ["code", "message"],
        "properties": {"code": code, "message": {"type": "string", "description": said}},
    }
