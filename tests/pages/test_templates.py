"""Rules that every template and every translation keeps."""

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
CATALOGUE = ROOT / "locale" / "ja" / "LC_MESSAGES" / "django.po"
APPS = ("core", "accounts", "leaderboards", "submissions", "jobs", "leaderboard_site")
GETTEXT = {"_", "gettext", "gettext_lazy"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_inline_script_style_or_handler(path):
    html = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|hx-on", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", html)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_words_outside_of_a_translation(path):
    html = re.sub(r"{%\s*blocktranslate.*?endblocktranslate\s*%}", "", path.read_text(), flags=re.S)
    html = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}|<(pre|code)\b.*?</\1>|<[^>]*>|&[a-z]+;", " ", html, flags=re.S)
    allowed = {
        "LeadersBoard",
        "MLflow",
        "CSV",
        "CPU",
        "GPU",
        "Python",
        "JSON",
        "SHA",
        "doctype",
        "s",
        "py",
        "yaml",
        "yml",
        "json",
        "txt",
        "zip",
        "tar",
        "gz",
    }
    assert set(re.findall(r"[A-Za-z]+", html)) - allowed == set()


def entries() -> dict[str, str]:
    """msgid (of plurals the singular) to translation, as the .po has them; a fuzzy one counts as none."""
    found = {}
    for block in CATALOGUE.read_text(encoding="utf-8").split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.fullmatch(r'(msg\w+(?:\[0\])?) (".*")', line):
                name = match[1]
                fields[name] = ast.literal_eval(match[2])
            elif line.startswith('"'):
                fields[name] += ast.literal_eval(line)
        is_fuzzy = re.search(r"^#,.*fuzzy", block, flags=re.M)
        translated = fields.get("msgstr", fields.get("msgstr[0]", ""))
        found[fields.get("msgid", "")] = "" if is_fuzzy else translated
    return found


def test_everything_in_the_catalogue_is_translated():
    assert [text for text, translation in entries().items() if not translation] == []


def test_placeholders_survive_translation():
    def names(text):
        return set(re.findall(r"%\(\w+\)", text)) | set(re.findall(r"</?\w+>", text))

    wrong = [text for text, translation in entries().items() if text and names(text) != names(translation)]
    assert wrong == []


def test_the_compiled_catalogue_says_the_same():
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog
    said = {text[0] if isinstance(text, tuple) else text: translation for text, translation in compiled.items()}
    assert {text: said.get(text) for text in entries() if text} == {text: t for text, t in entries().items() if text}


def texts_of_templates() -> set[str]:
    found = set()
    for path in TEMPLATES:
        html = path.read_text()
        found |= {match[1] for match in re.findall(r"""{%\s*translate\s+(["'])(.*?)\1""", html)}
        for block in re.findall(r"{%\s*blocktranslate.*?%}(.*?){%\s*(?:plural|endblocktranslate)", html, flags=re.S):
            found.add(re.sub(r"{{\s*(\w+)\s*}}", r"%(\1)s", block))
    return found


def texts_of_code() -> set[str]:
    found = set()
    for path in (path for app in APPS for path in (ROOT / app).rglob("*.py")):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GETTEXT and node.args:
                found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    return found


@pytest.mark.parametrize("texts", [texts_of_templates, texts_of_code])
def test_nothing_is_missing_in_the_catalogue(texts):
    found = texts()
    assert len(found) > 50
    assert sorted(found - set(entries())) == []


def test_the_stylesheet_and_script_reach_for_no_other_host():
    for name in (
        "site.css",
        "board.css",
        "work.css",
        "site.js",
        "packages.js",
        "board.js",
        "mlflow.js",
        "console.css",
        "console.js",
    ):
        assert not re.search(r"https?://|url\(|eval\(|innerHTML", (ROOT / "static" / name).read_text())


ROOMS = {"leaderboards": "board.css", "jobs": "work.css", "submissions": "work.css"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_page_has_the_stylesheet_of_its_room(path):
    html = path.read_text()
    is_page = '{% extends "base.html" %}' in html
    linked = re.findall(r"{% static '(\w+\.css)' %}", html)
    assert linked == ([ROOMS[path.parent.name]] if is_page and path.parent.name in ROOMS else linked)
