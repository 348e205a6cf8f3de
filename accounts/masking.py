"""Mask secrets in log lines. Every log of the site passes here: gunicorn's, Django's, the worker's and the reconciler's.

Imports no Django: gunicorn's master process uses it as well.
"""

import logging
import re
from urllib.parse import quote, unquote, urlsplit

MASK = "..."
_SHORTEST_KNOWN = 8
_known: set[str] = set()
_known_pattern: re.Pattern[str] | None = None


def _encoded(text: str) -> str:
    """A pattern for the text, any of its characters percent-encoded, also more than once."""
    return "".join(f"(?:{re.escape(char)}|%(?:25)*{ord(char):02x})" for char in text)


_EQUALS, _QUESTION_MARK = _encoded("="), _encoded("?")
_NAMES = (
    "invitation", "password", "passwd", "secret", "token", "access_token", "api_key", "csrfmiddlewaretoken", "sessionid",
    "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "AWSAccessKeyId", "Signature",
)  # fmt: skip
# `lb_` of an API token, `lbi_` of an invitation, `lbd_` of a browser (accounts/models.py, accounts/throttle.py).
_PREFIX = f"{_encoded('lb')}(?:{_encoded('i')}|{_encoded('d')})?{_encoded('_')}"
_BOUNDARY = r"(?:(?<![a-z0-9])|(?<=%[0-9a-f][0-9a-f])|(?<=%25[0-9a-f][0-9a-f]))"
_PATTERNS = [
    # Whole within anything; cut, where a word begins.
    re.compile(rf"({_PREFIX})[a-z0-9_%-]{{20,}}", re.IGNORECASE),
    re.compile(rf"{_BOUNDARY}({_PREFIX})[a-z0-9_%-]{{6,}}", re.IGNORECASE),
    # Invitations made before they had a prefix: all that follows their page's address.
    re.compile(rf"({_encoded('sign-up')}(?:/|%(?:25)*2f)?{_QUESTION_MARK})[^\s\"']+", re.IGNORECASE),
    # By the name of the parameter or the setting.
    re.compile(rf"{_BOUNDARY}((?:{'|'.join(map(_encoded, _NAMES))}){_EQUALS}[\"']?)[^\s\"'&;,)]+", re.IGNORECASE),
    re.compile(r"\b((?:Bearer|Basic)\s+)[^\s\"',]+", re.IGNORECASE),
    # The password of an address such as DATABASE_URL.
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s/@\"']+(?=@)", re.IGNORECASE),
]
# What every one of them has: other lines cost one search.
_SUSPECT = re.compile(r"lb|%|=|://|bearer\s|basic\s|sign-up", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """The text with MASK in the place of each secret."""
    if _known_pattern is not None:
        text = _known_pattern.sub(MASK, text)
    if _SUSPECT.search(text):
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def add_known_secret(value: str) -> None:
    """Mask this value wherever it stands; of an address with a password, the password."""
    global _known_pattern
    found = {value}
    if "://" in value:
        password = _password(value)
        found = {password, unquote(password)}
    found |= {quote(one, safe="") for one in found}
    _known.update(one for one in found if len(one) >= _SHORTEST_KNOWN)
    if _known:
        _known_pattern = re.compile("|".join(re.escape(one) for one in sorted(_known, key=len, reverse=True)))


def _password(address: str) -> str:
    try:
        return urlsplit(address).password or ""
    except ValueError:
        return ""


class MaskingFormatter(logging.Formatter):
    """A line of text without secrets, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(super().format(record))


class MaskedFormatter(MaskingFormatter):
    """Mask what another formatter makes of a record."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(self._inner.format(record))
