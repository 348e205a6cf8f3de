"""Organizers' Markdown as HTML. The text is bounded before it is parsed, and the result is cleaned."""

import nh3
from django.core.exceptions import ValidationError
from django.utils.html import linebreaks
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt

MAX_CHARACTERS = 64 * 1024
# The parser takes up to a thousand times as long for these as for letters; for some, the time grows with the square.
MARKS = "\\`*_[]<>!&~"
MAX_MARKS = 5000
MAX_LINES = 3000
# If a table's head has a thousand columns, each line below it makes a thousand cells.
MAX_CELLS = 15_000

_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s", "a", "hr", "br", "table", "thead", "tbody", "tr", "th", "td", "img"}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title"}, "ol": {"start"}}


def check_markdown(text: str) -> None:
    """Raise ValidationError with the rule that the text breaks."""
    lines = text.count("\n") + 1
    columns = max(line.count("|") for line in text.split("\n"))
    found = [
        (len(text), MAX_CHARACTERS, _("At most %(most)d characters, not %(found)d.")),
        (lines, MAX_LINES, _("At most %(most)d lines, not %(found)d.")),
        (
            sum(map(text.count, MARKS)),
            MAX_MARKS,
            _("At most %(most)d characters with a meaning in Markdown (such as * or [), not %(found)d."),
        ),
        (
            columns * lines,
            MAX_CELLS,
            _("At most %(most)d as the product of lines and the most | in one of them, not %(found)d."),
        ),
    ]
    for count, most, message in found:
        if count > most:
            raise ValidationError(message, code="too_much_markdown", params={"most": most, "found": count})


def rendered(text: str) -> SafeString:
    """Return the text as HTML, without raw HTML, and with links and pictures only where the policy allows them.

    A stored text that exceeds the limits, from before there were any, is shown as plain text.
    """
    try:
        check_markdown(text)
    except ValidationError:
        return mark_safe(linebreaks(text, autoescape=True))  # noqa: S308 - escaped
    cleaned = nh3.clean(
        _PARSER.render(text), tags=_TAGS, attributes=_ATTRIBUTES, url_schemes={"http", "https", "mailto"}
    )
    return mark_safe(cleaned)  # noqa: S308 - nh3 cleaned it
