"""The reader's language: English sentences are the keys, `japanese.py` has the others."""

from __future__ import annotations

import locale
import os
from collections.abc import Mapping, Sequence

from leaderboard_site.client.japanese import JAPANESE

LANGUAGES = ("en", "ja")
_chosen = "en"


def use(language: str) -> None:
    global _chosen
    _chosen = language


def current() -> str:
    return _chosen


def say(sentence: str) -> str:
    """Return the sentence in the chosen language."""
    return JAPANESE.get(sentence, sentence) if _chosen == "ja" else sentence


def choose(arguments: Sequence[str], environment: Mapping[str, str], encoding: str | None) -> str:
    """Return the language by `--lang`, else by the locale; English where the console has no Japanese letters."""
    for number, argument in reversed(list(enumerate(arguments))):
        given = argument.partition("=")[2] or "".join(arguments[number + 1 : number + 2])
        if argument.partition("=")[0] == "--lang" and given in LANGUAGES:
            return given
    by_locale = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    if not by_locale and os.name == "nt":
        by_locale = locale.getlocale()[0] or ""
    if not by_locale.lower().startswith(("ja", "japanese")):
        return "en"
    try:
        "日本語です。".encode(encoding or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return "en"
    return "ja"
