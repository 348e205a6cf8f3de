"""Mask secrets in log lines: those of gunicorn, Django, workers and the reconciler.

It does not import Django, because gunicorn's master process uses it too.
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
    # A whole secret anywhere; a cut one at the beginning of a word.
    re.compile(r"(lb[id]?_)[A-Za-z0-9_-]{20,}"),
    re.compile(r"(?<![A-Za-z0-9])(lb[id]?_)[A-Za-z0-9_-]{6,}"),
    # Invitations from before the prefix: all that follows their page's address.
    re.compile(r"(sign-up/?\?)[^\s\"']+"),
    # Values of parameters and settings whose name is one of these, or ends with one (X-Amz-Signature).
    re.compile(rf"((?:{'|'.join(_NAMES)})=[\"']?)[^\s\"'&;,)]+", re.IGNORECASE),
    re.compile(r"\b((?:Bearer|Basic)\s+)[^\s\"',]+", re.IGNORECASE),
    # The password of an address such as DATABASE_URL.
    re.compile(r"(://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"),
]
# Every match contains one of these. Lines without any are not matched against the patterns.
_SUSPECT = ("lb", "://", "bearer", "basic", "sign-up", *(f"{name.lower()}=" for name in _NAMES))
_MOST_ENCODINGS = 3


def mask_secrets(text: str) -> str:
    """Return the text with MASK in the place of each secret."""
    return "\n".join(map(_mask_line, text.split("\n"))) if "\n" in text else _mask_line(text)


def _mask_line(line: str) -> str:
    masked = plain = _mask(line)
    for _time in range(_MOST_ENCODINGS):
        if "%" not in plain:
            break
        plain = unquote(plain)
        if (found := _mask(plain)) != plain:
            # Such a line is written decoded, except for characters that would end it or control a terminal.
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
    """Mask this value in all later lines; of an address with a password, only the password."""
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
    """Format a record as text, and mask secrets in it and in its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(super().format(record))


class MaskedFormatter(MaskingFormatter):
    """Mask the line that another formatter makes."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(self._inner.format(record))
