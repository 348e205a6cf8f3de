"""Every refusal in the code is a pair of status and code that docs/errors.md and the OpenAPI schema name, and no other."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from drf_spectacular.generators import SchemaGenerator

from accounts.refusal_codes import API_CODES, PAGE_CODES
from accounts.refusals import RequestRefused
from leaderboard_site import errors

Pair = tuple[int, str]
ROOT = Path(settings.BASE_DIR)
ROOMS = ("accounts", "jobs", "leaderboards", "submissions", "leaderboard_site")
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if "tests" not in path.parts]
# Codes that an expression gives, by that expression.
COMPUTED = {
    "f'bad_{field}'": {"bad_entrypoint", "bad_config_file"},
    "self.code": {"too_many_logins", "too_many_sign_ups"},  # accounts/throttle.py
    "refusal.code": set(),  # of an archive, which `archive_pairs` has
}
# Refusals that are made by a class of another module's own, as its `super().__init__` says.
OWN_CODES = {"WrongFile": {"bad_leaderboard_file"}, "AlreadyThere": {"leaderboard_exists"}}


def pairs_of(codes: dict[int, tuple[str, ...]]) -> set[Pair]:
    return {(status, code) for status, of_status in codes.items() for code in of_status}


def refusal_classes() -> dict[str, type[RequestRefused]]:
    """Return every kind of refusal by its name, after loading the modules that make some."""
    for path in SOURCES:
        if "RequestRefused" in path.read_text() or "(InvalidInput)" in path.read_text():
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found: dict[str, type[RequestRefused]] = {}
    kinds: list[type[RequestRefused]] = [RequestRefused]
    while kinds:
        kind = kinds.pop()
        found[kind.__name__] = kind
        kinds += kind.__subclasses__()
    return found


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr, node


def raised_pairs() -> set[Pair]:
    kinds, found = refusal_classes(), set()
    for path in SOURCES:
        for name, call in calls(path):
            if name not in kinds:
                continue
            if name in OWN_CODES:
                codes = OWN_CODES[name]
            elif isinstance(call.args[0], ast.Constant):
                codes = {str(call.args[0].value)}
            else:
                codes = COMPUTED[ast.unparse(call.args[0])]
            found |= {(kinds[name].status, code) for code in codes}
    return found


def archive_pairs() -> set[Pair]:
    """Return the pairs of archives, which their reader refuses by `refuse(sentence, code)`."""
    codes = {"bad_archive"}
    for path in sorted((ROOT / "submissions/archive").glob("*.py")):
        for name, call in calls(path):
            if name == "refuse" and len(call.args) > 1:
                given = call.args[1]
                assert isinstance(given, ast.Constant), ast.unparse(call)
                codes.add(str(given.value))
    return {(413 if code == "too_large" else 400, code) for code in codes}


def test_every_refusal_of_the_code_is_listed_and_no_other():
    frame = {(status, code) for status, code in errors._CODES.items()}
    raised = raised_pairs() | archive_pairs() | frame
    assert {(413, "too_large"), (400, "bad_file_name"), (429, "too_many_sign_ups")} <= raised
    assert sorted(raised) == sorted(pairs_of(API_CODES) | pairs_of(PAGE_CODES))


def test_the_errors_page_names_each_refusal_once_and_no_other():
    tables = (ROOT / "docs/errors.md").read_text().partition("## Refused requests")[2]
    of_api, _, of_pages = tables.partition("### On pages only")
    for text, codes in ((of_api, API_CODES), (of_pages, PAGE_CODES)):
        rows = re.findall(r"^\| (\d{3}) \| `([a-z_]+)` \|", text, re.MULTILINE)
        assert sorted((int(status), code) for status, code in rows) == sorted(pairs_of(codes))


def test_the_schema_names_the_codes_of_each_status():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    answers = [
        (int(status), answer["content"]["application/json"]["schema"]["properties"]["code"]["enum"])
        for call in paths.values()
        for operation in call.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    ]
    assert len(answers) > 50
    assert [(status, codes) for status, codes in answers if codes != list(API_CODES[status])] == []
