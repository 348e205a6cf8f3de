"""The words of a console page that are the console's own: labels, heads, titles, buttons, helps; what rows hold is left out."""

import re
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
# Where rows show what they hold.
VALUES = {"td", "code", "pre", "textarea", "script", "style", "tbody", "bdi"}
VALUE_CLASSES = {"readonly", "inline_label", "actionlist", "console-log"}
SAID = ("aria-label", "title", "placeholder")


class Labels(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        if tag == "input" and given.get("type") in ("submit", "button"):
            self._take(given.get("value", ""))
        for name in SAID:
            self._take(given.get(name, ""))
        if tag != "img":  # the words behind Django's own small pictures are fixed in its code
            self._take(given.get("alt", ""))
        if tag not in VOID:
            is_value = tag in VALUES or bool(VALUE_CLASSES & set(given.get("class", "").split()))
            self.open.append((tag, is_value or self._is_row_of_choices(tag)))

    def _is_row_of_choices(self, tag):
        return tag == "option" and not any(outer == "label" for outer, _ in self.open)

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        # In a cell for values a label is still a label (inline forms, checkboxes).
        if not any(is_value for _, is_value in self.open) or self.open[-1][0] == "label":
            self._take(data)

    def _take(self, text):
        text = " ".join(text.split())
        if re.search(r"[A-Za-z]", text):
            self.found.add(text)


def english(html: str, allowed: re.Pattern[str]) -> set[str]:
    """The labels of the page that are in ASCII letters only, but for what is allowed."""
    found = {text for text in Labels(html).found if text.isascii()}
    return {text for text in found if re.search("[A-Za-z]", allowed.sub("", text))}
