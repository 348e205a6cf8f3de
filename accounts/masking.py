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


_NAMES = (
    "invitation", "password", "passwd", "secret", "token", "api_key", "sessionid", "signature", "credential",
    "AWSAccessKeyId",
)  # fmt: skip
# `lb_` of an API token, `lbi_` of an invitation, `lbd_` of a browser (accounts/models.py, accounts/throttle.py).
_PATTERNS = [
    # Whole within anything; cut, where a word begins.
    re.compile(r"(lb[id]?_)[A-Za-z0-9_-]{20,}"),
    re.compile(r"(?<![A-Za-z0-9])(lb[id]?_)[A-Za-z0-9_-]{6,}"),
    # Invitations made before they had a prefix: all that follows their page's address.
    re.compile(r"(sign-up/?\?)[^\s\"']+"),
    # By the name of the parameter or the setting, or by its end (X-Amz-Signature).
    re.compile(rf"((?:{'|'.join(_NAMES)})=[\"']?)[^\s\"'&;,)]+", re.IGNORECASE),
    re.compile(r"\b((?:Bearer|Basic)\s+)[^\s\"',]+", re.IGNORECASE),
    # The password of an address such as DATABASE_URL.
    re.compile(r"(://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"),
]
# Each match has one of them; lines that have none cost no pattern.
_SUSPECT = ("lb", "://", "bearer", "basic", "sign-up", *(f"{name.lower()}=" for name in _NAMES))
_MOST_ENCODINGS = 3


def mask_secrets(text: str) -> str:
    """The text with MASK in the place of each secret."""
    return "\n".join(map(_mask_line, text.split("\n"))) if "\n" in text else _mask_line(text)


def _mask_line(line: str) -> str:
    masked = plain = _mask(line)
    for _time in range(_MOST_ENCODINGS):
        if "%" not in plain:
            break
        plain = unquote(plain)
        if (found := _mask(plain)) != plain:
            # The line is written decoded then, but for what would end it or steer a terminal.
            masked = "".join(char if char.isprintable() else quote(char, errors="replace") for char in found)
    return masked


def _mask(line: str) -> str:
    if _known_pattern is not None:
        line = _known_pattern.sub(MASK, line)
    lowered = line.lower()
    if any(word in lowered for word in _SUSPECT):
        for pattern in _PATTERNS:
            line = pattern.sub(rf"\g<1>{MASK}", line)
    return line


def add_known_secret(value: str) -> None:
    """Mask this value wherever it stands; of an address with a password, the password."""
    global _known_pattern
    found = {value}
    if "://" in value:
        password = _password(value)
        found = {password, unquote(password)}
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
