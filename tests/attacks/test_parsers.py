"""Text that is made to cost much: each parser on the request path reads the largest input that it takes.

Work is counted where possible. Otherwise processor time is compared with that of harmless text of the same size, in the
same minute on the same machine; it used to be hundreds or thousands of times as much.
"""

import importlib
import pkgutil
import re

import pytest
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent, ValidationError
from django.core.wsgi import get_wsgi_application
from django.http.multipartparser import MultiPartParserError
from django.test import RequestFactory

from accounts.tests.factories import UserFactory
from jobs.code_diff import MAX_FILE_LINES, MAX_STEPS, Budget, _file_diff
from jobs.log_page import PART_BYTES, coloured, found_in_log, log_part
from jobs.tests.factories import JobFactory
from leaderboard_site.lane.form import read_form
from leaderboard_site.request_limits import COOKIE_BACKSLASHES, HEADER_CHARACTERS, LimitedApplication
from leaderboards.markdown import MAX_CELLS, MAX_CHARACTERS, MAX_LINES, MAX_MARKS, check_markdown, rendered
from tests.timing import ratio, seconds


def to_size(text, size):
    """Repeat the text up to exactly this size."""
    return (text * (size // len(text) + 1))[:size]


# --- Headers -------------------------------------------------------------------------------------------------------
PLAIN_COOKIES = to_size("name=value; ", 8000)
SLASHES = "\\1" * COOKIE_BACKSLASHES


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "largest", "harmless"),
    [
        ("HTTP_COOKIE", f'a="{SLASHES}{"b" * 7700}"', PLAIN_COOKIES),
        ("HTTP_COOKIE", f'a="{"b" * 7700}{SLASHES}"', PLAIN_COOKIES),
        ("HTTP_COOKIE", to_size("a=;", HEADER_CHARACTERS), PLAIN_COOKIES),
        ("CONTENT_TYPE", "text/plain" + ";" * 245, "text/plain; charset=utf-8"),
        ("CONTENT_TYPE", to_size('a/b; a=";', 255), "text/plain; charset=utf-8"),
        ("HTTP_ACCEPT", "a/b" + ";" * 997, to_size("text/html, ", 1000)),
        ("HTTP_IF_NONE_MATCH", to_size('"a', HEADER_CHARACTERS), to_size('"tag", ', HEADER_CHARACTERS)),
        ("HTTP_ACCEPT_LANGUAGE", to_size("a-", HEADER_CHARACTERS), to_size("en, ", HEADER_CHARACTERS)),
    ],
    ids=["slashes first", "slashes last", "empty cookies", "semicolons", "quotes", "accept", "tags", "languages"],
)
def test_the_costliest_header_that_is_taken_costs_little(client, name, largest, harmless):
    def get(value):
        assert client.get("/api/leaderboards/none/entries", **{name: value}).status_code == 404

    assert ratio(get, largest, harmless, most=20) < 20


REFUSED_HEADERS = {
    "a cookie of backslashes": ("HTTP_COOKIE", 'a="' + "\\1" * 4000 + '"'),
    "a cookie sent a hundred times": ("HTTP_COOKIE", ",".join(['a="' + "\\1" * 4000 + '"'] * 100)),
    "a long list of tags": ("HTTP_IF_NONE_MATCH", '"a",' * 200_000),
    "a media type of semicolons": ("CONTENT_TYPE", "text/plain" + ";" * 8000),
    "an encoding that is none": ("CONTENT_TYPE", "text/plain; a*=nope''x"),
    "an accept header of semicolons": ("HTTP_ACCEPT", "text/plain" + ";" * 8000),
}


@pytest.mark.django_db
@pytest.mark.parametrize("kind", REFUSED_HEADERS)
@pytest.mark.parametrize(
    ("path", "begins"), [("/api/nothing", b'{"code": "bad_header"'), ("/healthz", b"<!doctype html>")]
)
def test_a_header_that_would_cost_much_is_refused_before_it_is_parsed(client, kind, path, begins):
    name, value = REFUSED_HEADERS[kind]
    application = LimitedApplication(get_wsgi_application())

    def ask(value):
        environ = {**client._base_environ(), "PATH_INFO": path, name: value}
        answered = []
        body = b"".join(application(environ, lambda status, headers: answered.append(status)))
        return answered[0], body

    status, body = ask(value)
    assert status.startswith("431") and body.lower().lstrip().startswith(begins)
    assert seconds(ask, value) < 50 * seconds(ask, "text/plain")


# --- Forms ---------------------------------------------------------------------------------------------------------
FIELD = b'Content-Disposition: form-data; name="f"'
FILE = FIELD + b'; filename="f"'


def part(head, content=b"a"):
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


MIB = 1024 * 1024
HOSTILE_FORMS = {
    "line ends": part(FILE, b"\r\n" * (2 * MIB)),
    "beginnings of boundaries": part(FILE, b"\r\n--" * MIB),
    "base64 of spaces": part(FILE + b"\r\nContent-Transfer-Encoding: base64", b"QU" + b" " * (4 * MIB) + b"JD"),
    "base64 of lines": part(FILE + b"\r\nContent-Transfer-Encoding: base64", b"QUJD\n\n\n\n" * (MIB // 2)),
    "parts without a head": b"--b\r\n\r\n\r\n" * (MIB // 3),
    "fields without an end": part(FIELD) * 50_000,
    "files without a name": part(FIELD + b'; filename=""') * 50_000,
    "one endless head": b"--b\r\n" + b"a: b\r\n" * (MIB // 2),
    "text before the first part": b"x\r\n" * MIB,
    "text after the last part": part(FILE) + b"--b--\r\n" + b"x" * (4 * MIB),
}


def read_multipart(body):
    request = RequestFactory().post("/", body, content_type="multipart/form-data; boundary=b")
    try:
        assert request.POST is not None
    except (MultiPartParserError, TooManyFieldsSent, TooManyFilesSent, RequestDataTooBig):
        pass


@pytest.mark.parametrize("kind", HOSTILE_FORMS)
def test_a_form_costs_what_its_size_does(kind):
    harmless = part(FILE, to_size(b"0123456789abcdef", len(HOSTILE_FORMS[kind]))) + b"--b--\r\n"
    assert ratio(read_multipart, HOSTILE_FORMS[kind] + b"--b--\r\n", harmless, most=20) < 20


def test_heads_of_parts_are_bounded_by_their_number():
    """Django takes a hundred fields and 1024 bytes of each head, whatever the heads cost."""
    hostile = part(FIELD + b";" * 900) * 100 + b"--b--\r\n"
    ordinary = part(FIELD, b"a" * 900) * 100 + b"--b--\r\n"
    assert ratio(read_multipart, hostile, ordinary, most=100) < 100


@pytest.mark.parametrize(
    "body",
    [
        part(FILE + b"; " + b"a" * 900) * 60,
        b"--b\r\n" + FIELD + b"\r\n\r\n" + b"\r\n--" * 15_000,
        part(FIELD) * 600,
        b"--b\r\n" * 10_000,
    ],
    ids=["heads", "beginnings of boundaries", "fields", "boundaries"],
)
def test_the_short_way_reads_a_form_or_leaves_it(body):
    harmless = part(FIELD, b"a" * len(body)) + b"--b--"
    assert ratio(lambda form: read_form(form, b"b", file_field="files"), body, harmless, most=60) < 60


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body", [b"a=b&" * 250_000, b"&" * 1_000_000, b"%" * 1_000_000, b"a=%41" * 200_000, b"a;" * 500_000]
)
def test_fields_of_an_ordinary_form_are_bounded(client, body):
    client.force_login(UserFactory())  # an anonymous client's form of this size is refused unread
    kind = "application/x-www-form-urlencoded"

    def post(content):
        assert client.post("/language/", content, content_type=kind).status_code in (302, 400)

    assert ratio(post, body, b"a=" + b"%41" * 300_000, most=20) < 20


# --- Markdown ------------------------------------------------------------------------------------------------------
BOMBS = {
    "brackets": "[", "links": "](<", "pictures": "![[", "open links": "[a](", "emphasis": "*a ", "words": "a**b",
    "mixed": "*_", "underscores": "_a__", "struck": "~~a", "tags": "<", "comments": "<!--", "entities": "&", "mails": "<a@",
    "references": "[x][y]", "definitions": "[a]: b\n", "quotes": "> a\n", "lists": "* a\n", "numbers": "1. a\n", "code": "`a",
    "titles": '[a](b "', "headings": "# a\n", "rules": "-\n", "fences": "```\n",
}  # fmt: skip


# Ordinary rules: some sentences, a link and a stress in each paragraph.
PARAGRAPH = "words of a rule " * 20 + "with a [link](https://example.org) and a **stress**\n\n"


def largest_accepted(piece):
    """Repeat the piece as often as is accepted, and add words up to the largest text."""
    count = 8
    while count < MAX_CHARACTERS:
        try:
            check_markdown(piece * count * 2)
        except ValidationError:
            break
        count *= 2
    bomb = piece * count
    words = "words of a rule "
    return bomb + words * ((MAX_CHARACTERS - len(bomb)) // len(words))


@pytest.mark.parametrize("kind", BOMBS)
def test_markdown_costs_little_more_than_words(kind):
    text = largest_accepted(BOMBS[kind])
    check_markdown(text)
    assert ratio(rendered, text, to_size(PARAGRAPH, len(text)), most=80) < 80


@pytest.mark.parametrize("columns", [2, 5, 100, 1000])
def test_a_table_is_bounded_by_its_cells(columns):
    lines = min(MAX_LINES, MAX_CELLS // (columns + 1)) - 2
    text = "|" + "a|" * columns + "\n|" + "-|" * columns + "\n" + "a\n" * (lines - 1)
    check_markdown(text)
    assert ratio(rendered, text, to_size(PARAGRAPH, MAX_CHARACTERS), most=80) < 80


@pytest.mark.parametrize(
    "text",
    ["a" * (MAX_CHARACTERS + 1), "\n" * MAX_LINES, "[" * (MAX_MARKS + 1), "|" * 1000 + "\n" * 20],
    ids=["long", "lines", "marks", "cells"],
)
def test_markdown_beyond_a_limit_is_refused_and_what_is_there_is_shown_as_text(text):
    with pytest.raises(ValidationError, match="At most"):
        check_markdown(text)
    assert rendered(text + "<b>").replace("<br>", "\n").endswith("&lt;b&gt;</p>")


# --- Logs ----------------------------------------------------------------------------------------------------------
def test_a_part_of_a_log_costs_what_ordinary_colours_do():
    ordinary = to_size("\x1b[32mepoch\x1b[0m 1 loss 0.25\n", PART_BYTES)
    for hostile in ("\x1b[1ma", "\x1b[1;2;3;4;31m<", "\x1b[" + "1;" * 30 + "m", "\x1b[", "\x1b[0;", "&"):
        assert ratio(coloured, to_size(hostile, PART_BYTES), ordinary, most=20) < 20


@pytest.mark.django_db
@pytest.mark.parametrize(
    "style", ["ansi-" + "a" * 3000, "ansi-bold " * 300, "ansi-red ansi-red", 'ansi-bold" onclick="', "ansi-nothing"]
)
def test_a_style_of_the_address_is_one_that_a_log_can_have(style, monkeypatch):
    """The style is repeated in each piece of the answer: 4 kB in the address became 50 MB of page."""
    monkeypatch.setattr("jobs.log_page.read_log", lambda job, offset: (b"a\x1b[1mb" * 5000, 0))
    part = log_part(JobFactory(status="completed"), 0, style)
    assert len(part.html) < 10 * PART_BYTES and "ansi-bold" in part.html and "onclick" not in part.html


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("a", "a" * 99 + "b"),
        ("\n", "a"),
        ("a\n", "a"),
        ("a" * 900 + "\n", "a"),
        ("\u0130", "i" * 99 + "x"),
        (" ", "  x"),
    ],
    ids=["nearly", "empty lines", "short lines", "marks", "two letters of one", "spaces"],
)
def test_a_search_in_a_log_costs_what_the_log_does(line, wanted, monkeypatch):
    def search(text):
        monkeypatch.setattr("jobs.log_page._whole_log", lambda job: text)
        return found_in_log(None, wanted)

    hostile = to_size(line, MIB)
    assert ratio(search, hostile, to_size("epoch 7 loss 0.25 and some more words\n", MIB), most=40) < 40
    assert sum(len(html) for _number, html in search(hostile).lines) < MIB


# --- Code ----------------------------------------------------------------------------------------------------------
HALF = MAX_FILE_LINES // 2
HOSTILE_CODE = {
    "few lines often": ([str(n % 99) for n in range(MAX_FILE_LINES)], [str(n * 7 % 99) for n in range(MAX_FILE_LINES)]),
    "one line often": (["a"] * HALF + ["x"], ["y", *["a", "b"] * (HALF // 2)]),
    "two lines": ([f"x{'ab'[n % 2]}" for n in range(199)], [f"x{'abba'[n % 4]}" for n in range(199)]),
    "backwards": ([str(n % 120) for n in range(MAX_FILE_LINES)], [str(n % 120) for n in range(MAX_FILE_LINES, 0, -1)]),
}


@pytest.mark.parametrize("kind", HOSTILE_CODE)
def test_code_is_compared_within_so_many_steps(kind):
    """Compare a hundred such files, as many as a page does."""
    old, new = ("\n".join(lines).encode() for lines in HOSTILE_CODE[kind])
    budget, spent = Budget(MAX_STEPS), []
    for _number in range(100):
        before = max(0, budget.steps)
        found = _file_diff("a.py", "changed", old, new, 800, budget)
        spent.append(before - max(0, budget.steps))
    assert sum(spent) <= MAX_STEPS
    assert found.why == "too large to compare here" or sum(spent) < MAX_STEPS


# --- Expressions of this product -----------------------------------------------------------------------------------
def patterns():
    found = {}
    for package in ("accounts", "jobs", "leaderboards", "submissions", "leaderboard_site"):
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            if any(word in module.name for word in (".tests", ".migrations", ".management", "wsgi", "gunicorn")):
                continue
            values = vars(importlib.import_module(module.name)).items()
            found |= {
                f"{module.name}.{name}": getattr(value, "regex", value)
                for name, value in values
                if isinstance(getattr(value, "regex", value), re.Pattern)
            }
    return found


# It reads a field of twelve bytes.
BOUNDED = {"submissions.archive.tar_reader._OCTAL"}
PUMPS = [
    "a",
    "A",
    "0",
    "_",
    "-",
    ".",
    "/",
    "a/",
    "a-",
    "a.",
    "a_",
    "__a",
    "--a",
    "0.",
    "1;",
    " ",
    "a a",
    "; ",
    "ansi-a ",
    "\\0",
]


def test_no_expression_goes_back_and_forth():
    """Twice the text takes twice the time: four times would be the square."""
    checked = patterns()
    assert len(checked) > 25
    slow = []
    for name in checked.keys() - BOUNDED:
        pattern = checked[name]
        for pump in PUMPS:
            texts = [to_size(pump, size) + "\0\n" for size in (8_000, 32_000)]
            if isinstance(pattern.pattern, bytes):
                texts = [text.encode() for text in texts]
            for look in (pattern.match, pattern.fullmatch):
                long = seconds(look, texts[1], enough=0.002)
                if long > 0.002 and long > 9 * seconds(look, texts[0]):
                    slow.append((name, pump, look.__name__))
    assert slow == []
