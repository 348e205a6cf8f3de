"""The rule for names of metrics and params, and a stranger's text made safe to show. client.pyz has this module, too."""

from __future__ import annotations

import unicodedata
from typing import Any

LONGEST_NAME = 100
_LONGEST_SHOWN = 60
# Control, bidi, zero-width, private and unassigned characters, and the separators of lines and paragraphs.
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain_name(name: str) -> str:
    """Return the name in NFC, so that equal names are equal whatever keyboard or file system they came from.

    One that is too long in any form stays as it is: normalizing takes quadratic time for long runs of combining marks.
    """
    return unicodedata.normalize("NFC", name) if len(name) <= 4 * LONGEST_NAME else name


def is_name(name: str) -> bool:
    """Return whether a name in NFC keeps the rule. Printable leaves out control, format, bidi and private characters."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()


def invisible_character(text: str) -> str:
    """Return the first character that cannot be seen, as `U+200B`; empty if every one can."""
    for character in text:
        if unicodedata.category(character) in _INVISIBLE_CATEGORIES:
            return f"U+{ord(character):04X}"
    return ""


def printable(text: str) -> str:
    """Return the text with the characters of any script as they are; those that cannot be seen are escaped."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in _INVISIBLE_CATEGORIES:
        return character.encode("unicode_escape").decode()
    return character


def shown(value: Any, longest: int = _LONGEST_SHOWN) -> str:
    """Return a value for a message: short, on one line, a text in quotation marks and as `printable` has it."""
    if not isinstance(value, str):
        text = repr(value)
    else:
        cut = value[: longest + 1].replace("\\", "\\\\")
        quote = '"' if "'" in cut else "'"
        text = f"{quote}{printable(cut.replace(quote, chr(92) + quote))}{quote}"
    return text if len(text) <= longest else text[: longest - 3] + "..."
