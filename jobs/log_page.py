"""A run's log on a page: cut where nothing is torn, escaped, its colours as classes."""

import re
from dataclasses import dataclass

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from accounts.refusals import Unavailable
from jobs.models import Job
from jobs.queries import read_log

PART_BYTES = 64 * 1024
# The first part stands in the page itself, which must come fast; the rest follows.
FIRST_BYTES = 16 * 1024
SEARCHED_BYTES = 8 * 1024 * 1024
FOUND_LINES = 200
LONGEST_QUERY = 100
_LONGEST_LINE = 1000
_MARKS_IN_LINE = 50
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-9;:]*)?$")
_COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
_STYLES = {1: "bold", 2: "dim", 3: "italic", 4: "underline"}
_CLASSES = frozenset(f"ansi-{name}" for name in [*_COLOURS, *_STYLES.values()])


@dataclass(frozen=True)
class LogPart:
    """Some of a log as HTML; `style` is what its end leaves on for the next part."""

    html: SafeString
    next_offset: int
    style: str
    has_more: bool
    is_missing: bool = False


@dataclass(frozen=True)
class Found:
    """The lines of a log that hold what was looked for: the first of them as (number, HTML with marks), and how many."""

    wanted: str
    lines: list[tuple[int, SafeString]]
    line_count: int
    match_count: int
    is_missing: bool = False


def found_in_log(job: Job, wanted: str) -> Found:
    """Look for a text in the log, large and small letters alike; colours do not come between."""
    wanted = wanted[:LONGEST_QUERY]
    try:
        text = _SGR.sub("", _whole_log(job))
    except Unavailable:
        return Found(wanted, [], 0, 0, is_missing=True)
    wanted_low = _lowered(wanted)
    shown: list[tuple[int, SafeString]] = []
    line_count = match_count = 0
    # Plain searches take time by the length of the text; regular expressions by the product of both lengths.
    for number, (line, low) in enumerate(zip(text.split("\n"), _lowered(text).split("\n"), strict=True), start=1):
        if wanted_low not in low:
            continue
        line_count, match_count = line_count + 1, match_count + low.count(wanted_low)
        if len(shown) < FOUND_LINES:
            shown.append((number, _marked(line, low, wanted_low)))
    return Found(wanted, shown, line_count, match_count)


def _lowered(text: str) -> str:
    """Return the text in small letters and of the same length: only the letter İ would become two characters."""
    return text.replace("\u0130", "i").lower()


def _whole_log(job: Job) -> str:
    parts: list[bytes] = []
    offset = 0
    while offset < SEARCHED_BYTES:
        content, offset = read_log(job, offset)
        if not content:
            break
        parts.append(content)
    return b"".join(parts).decode("utf-8", "replace")


def _marked(line: str, low: str, wanted: str) -> SafeString:
    """Return the line escaped, with the first matches in <mark>; of a long line only the part around the first match."""
    start = max(0, low.find(wanted) - 200) if len(line) > _LONGEST_LINE else 0
    end = min(len(line), start + _LONGEST_LINE)
    out, position = ["…" if start else ""], start
    for _number in range(_MARKS_IN_LINE):
        at = low.find(wanted, position, end)
        if at < 0:
            break
        out += [escape(line[position:at]), "<mark>", escape(line[at : at + len(wanted)]), "</mark>"]
        position = at + len(wanted)
    out += [escape(line[position:end]), "…" if end < len(line) else ""]
    return mark_safe("".join(out))  # noqa: S308 - every piece is escaped


def log_part(job: Job, offset: int = 0, style: str = "", *, most: int = PART_BYTES) -> LogPart:
    """The log from a byte offset on, at most `most` bytes of it."""
    # The style is repeated in each piece of the answer.
    classes = style.split(" ", len(_CLASSES))
    style = style if len(set(classes)) == len(classes) and _CLASSES.issuperset(classes) else ""
    try:
        raw, _end = read_log(job, offset)
    except Unavailable:  # the storage is away, or retention took the log
        return LogPart(mark_safe(""), offset, style, has_more=False, is_missing=True)
    part = whole(raw[:most], is_last=len(raw) <= most and job.is_final, most=most)
    html, style = coloured(part.decode("utf-8", "replace"), style)
    return LogPart(html, offset + len(part), style, has_more=len(raw) > len(part) and bool(part))


def whole(part: bytes, *, is_last: bool, most: int = PART_BYTES) -> bytes:
    """The part without a character or a colour sequence that is torn at its end: the next part begins with it."""
    if is_last:
        return part
    if len(part) == most and b"\n" in part:
        return part[: part.rindex(b"\n") + 1]
    part = part[: len(part) - _torn_bytes(part)]
    torn = _UNFINISHED.search(part[-64:])
    return part[: len(part) - len(torn.group())] if torn else part


def _torn_bytes(part: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character and do not end it."""
    for length in range(1, min(3, len(part)) + 1):
        byte = part[-length]
        if byte & 0xC0 == 0x80:
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return length if needed > length else 0
    return 0


def coloured(text: str, style: str = "") -> tuple[SafeString, str]:
    """Escaped HTML with a span for each stretch of one style, and the style at the end. Other escapes are dropped."""
    out: list[str] = []
    position = 0
    for match in _SGR.finditer(text):
        out.append(_stretch(text[position : match.start()], style))
        style = _next_style(style, match.group(1))
        position = match.end()
    out.append(_stretch(text[position:], style))
    return mark_safe("".join(out)), style  # noqa: S308 - every stretch is escaped, every class is ours


def _stretch(text: str, style: str) -> str:
    if not text:
        return ""
    shown = escape(text.replace("\x1b", ""))
    return f'<span class="{style}">{shown}</span>' if style else shown


def _next_style(style: str, codes: str) -> str:
    classes = dict.fromkeys(style.split())
    numbers = [int(code) if code.isdigit() and len(code) < 4 else 0 for code in re.split("[;:]", codes)]
    index = 0
    while index < len(numbers):
        code = numbers[index]
        if code == 0:
            classes.clear()
        elif code in _STYLES:
            classes[f"ansi-{_STYLES[code]}"] = None
        elif code in (22, 23, 24):
            for name in {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",)}[code]:
                classes.pop(f"ansi-{name}", None)
        elif 30 <= code <= 37 or 90 <= code <= 97 or code == 39:
            for name in _COLOURS:
                classes.pop(f"ansi-{name}", None)
            if code != 39:
                classes[f"ansi-{_COLOURS[code % 10]}"] = None
        elif code in (38, 48):  # 256 colours and true colours: passed over with their arguments
            index += {5: 2, 2: 4}.get(numbers[index + 1] if index + 1 < len(numbers) else 0, 0)
        index += 1
    return " ".join(classes)
