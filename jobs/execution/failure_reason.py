"""Why a program failed, in its own words: the line of its output that says so.

That is the last traceback's exception line, wherever it stands; what exits, progress bars and libraries print after it does
not count. Everything is read from the last part of each output, as a stranger's words.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_LINE = 2000
# Only an interpreter that an exception ended exits with 1. After other ends, a traceback further up may have been handled.
EXIT_OF_EXCEPTIONS = 1
RECENT_LINES = 30
_MOST_BODY_LINES, _MOST_STRANGERS = 2000, 20

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_HEADER = "Traceback (most recent call last)"
# What can stand between a line's prefix ("[rank0]: ") and the header.
_HEADER_WORDS = re.compile(r"(?:Original |Remote |\+ Exception Group )$")
_EXCEPTION = re.compile(r"(?!(?:DEBUG|INFO|WARNING|ERROR|CRITICAL|FATAL|NOTE):)[^\W\d][\w.<>]{0,200}(?::(?:\s|$)|$)")
_SYNTAX_PLACE = re.compile(r'  File ".{1,500}", line \d+$')
_SYNTAX_ERROR = re.compile(r"(?:SyntaxError|IndentationError|TabError):")
_USAGE = re.compile(r"\S{1,200}(?: \S{1,100}){0,3}: error: ")
# Tracebacks of what did not end the program.
_ASIDE = re.compile(r"(?:Exception ignored |Exception in |Error in atexit|--- Logging error ---|Process \S{1,100}:$)")
# Launchers' words for "a child failed": the child's own traceback says why.
_LAUNCHERS = ("ChildFailedError",)
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")


@dataclass(frozen=True)
class LastWords:
    """`reason`: a line that says by itself why the program failed; otherwise `last_line` is the last that it said."""

    reason: str = ""
    last_line: str = ""


@dataclass(frozen=True)
class _Found:
    """An exception's line, where it stands, and whether it is about something beside the program itself."""

    at: int
    text: str
    is_aside: bool


def last_words(output: bytes, error: bytes, exit_code: int) -> LastWords:
    """Read the ends of standard output and standard error of a program that exited with this code, which is not 0."""
    lines = [_lines(error), _lines(output)]
    said = [next((line.strip() for line in reversed(each) if line.strip()), "") for each in lines]
    if exit_code == 2 and _USAGE.match(said[0]):
        return LastWords(said[0])
    found = [_exceptions(each) for each in lines]
    if exit_code != EXIT_OF_EXCEPTIONS:
        found = [[one for one in some if _is_recent(one, each)] for some, each in zip(found, lines, strict=True)]
    for is_aside in (False, True):
        for some in found:
            if fitting := [one.text for one in some if one.is_aside == is_aside]:
                return LastWords(fitting[-1])
    return LastWords("", said[0] or said[1])


def _lines(raw: bytes) -> list[str]:
    text = _COLOUR.sub("", raw.decode("utf-8", "replace"))
    return [line[:LONGEST_LINE].rstrip() for line in text.split("\n")]


def _is_recent(found: _Found, lines: list[str]) -> bool:
    return sum(bool(line) for line in lines[found.at + 1 :]) <= RECENT_LINES


def _exceptions(lines: list[str]) -> list[_Found]:
    found: list[_Found] = []
    at = 0
    while at < len(lines):
        one = _exception_below(lines, at, found)
        if one is not None:
            found.append(one)
        at = one.at + 1 if one else at + 1
    return found


def _exception_below(lines: list[str], header: int, earlier: list[_Found]) -> _Found | None:
    """The exception of the traceback whose header is this line; None if it is no header."""
    before, found, _ = lines[header].partition(_HEADER)
    if not found:
        if not _SYNTAX_PLACE.fullmatch(lines[header]):
            return None
        body = ((at, lines[at]) for at in range(header + 1, min(header + 4, len(lines))))
        return next((_Found(at, text, False) for at, text in body if _SYNTAX_ERROR.match(text)), None)
    strangers = 0
    for at, text in _body(lines, header, before):
        if not text or text[0].isspace():
            continue
        if _is_exception(text):
            whole = _with_message(lines, at, text)
            return _Found(at, whole, _is_aside(lines, header, whole, earlier))
        strangers += 1
        if strangers > _MOST_STRANGERS or _HEADER in text:
            break
    return None


def _body(lines: list[str], header: int, before: str) -> Iterator[tuple[int, str]]:
    """The lines below a traceback's header, without the prefix that a launcher gives every line of a process."""
    start = header + 1
    if (box := before.find("╭")) >= 0:
        # Rich draws a box; the exception stands below it.
        prefix = before[:box]
        start = _box_end(lines, start, prefix) + 1
    else:
        words = _HEADER_WORDS.search(before)
        prefix = before[: words.start()] if words else before
        if words and words[0].startswith("+"):
            prefix += "| "
    following = lines[start] if start < len(lines) else ""
    # A progress bar may stand before the header, too.
    prefix = prefix if following.startswith(prefix.rstrip()) else ""
    for at in range(start, min(start + _MOST_BODY_LINES, len(lines))):
        if lines[at].startswith(prefix):
            yield at, lines[at][len(prefix) :]


def _box_end(lines: list[str], start: int, prefix: str) -> int:
    """Return the last line of the box; the last of all if the next traceback begins before it ends."""
    for at in range(start, len(lines)):
        if lines[at].startswith(f"{prefix}╰"):
            return at
        if _HEADER in lines[at]:
            break
    return len(lines) - 1


def _is_exception(text: str) -> bool:
    matched = _EXCEPTION.match(text)
    name = matched[0].rstrip(": ").rpartition(".")[2] if matched else ""
    return name[:1].isupper() or "error" in name.lower()


def _with_message(lines: list[str], at: int, text: str) -> str:
    """The exception's line; with the first line of its message if that begins on one of the next."""
    if not text.endswith(":"):
        return text
    for line in lines[at + 1 : at + 4]:
        words = line.strip()
        if any(sign.isalnum() for sign in words) and _HEADER not in words and not words.startswith("-- Process"):
            return f"{text} {words}"
    return text


def _is_aside(lines: list[str], header: int, text: str, earlier: list[_Found]) -> bool:
    if any(f"{name}:" in text for name in _LAUNCHERS):
        return True
    above = [line for line in lines[max(0, header - 3) : header] if line]
    is_chained = any(words in line for line in above for words in _CHAINED) or "Original " + _HEADER in lines[header]
    if is_chained and earlier:
        return earlier[-1].is_aside
    return bool(above and _ASIDE.match(above[-1]))
