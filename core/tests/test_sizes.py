"""One way to write sizes, in Python, in the browser and in the client."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.template import Context, Template

from core.sizes import bytes_beyond, human_bytes

SIZES = {
    0: "0 B", 12: "12 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 2048: "2 KiB", 10_240: "10 KiB",
    100 * 1024 + 300: "100 KiB", 1_047_552: "1023 KiB", 1_048_570: "1 MiB", 3 << 19: "1.5 MiB", 104_857_600: "100 MiB",
    16 << 30: "16 GiB", 1100 << 30: "1.1 TiB", 5000 << 40: "5000 TiB",
}  # fmt: skip


@pytest.mark.parametrize(("count", "text"), SIZES.items())
def test_a_size_is_written_in_the_largest_unit_that_it_fills(count, text):
    assert human_bytes(count) == text


def test_pages_write_sizes_as_messages_do():
    shown = {count: Template("{% load shown %}{{ count|size }}").render(Context({"count": count})) for count in SIZES}
    assert shown == SIZES
    assert Template("{% load shown %}{{ count|size }}").render(Context({"count": None})) == "–"


@pytest.mark.parametrize(
    ("count", "most", "text"),
    [(104_857_601, 104_857_600, "104,857,601 B"), (200 << 20, 100 << 20, "200 MiB"), (1001, 1000, "1001 B")],
)
def test_a_size_just_beyond_a_limit_never_reads_like_the_limit(count, most, text):
    assert bytes_beyond(count, most) == text


# Measurements keep the units in which they were taken.
MEASURED = ("docs/performance.md", "docs/adr/", "docs/examples.md", "examples/", "CHANGELOG.md")
DECIMAL = re.compile(r"[\d}sd] [kKMGT]B\b")
BINARY = re.compile(r"^ [KMGT]iB\b|[}sdf] [KMGT]iB\b")


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", *patterns]
    told = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=True)
    return [Path(settings.BASE_DIR, name) for name in told.stdout.splitlines() if not name.startswith(MEASURED)]


def sentences() -> list[tuple[Path, str]]:
    """Return the texts in the product's own Python code, docstrings and comments aside."""
    found = []
    # The benchmarks' reports and the scorers, which are programs of their own, import nothing of the product.
    apart = {"tests", "benchmarks", "scorers"}
    for path in (path for path in tracked("*.py") if not apart & set(path.relative_to(settings.BASE_DIR).parts)):
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            (path, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        ]
    return found


def test_nothing_is_written_in_decimal_units():
    lines = [
        (path, line)
        for path in tracked("*.html", "*.js", "*.po", "docs/*.md", "README*.md")
        for line in path.read_text().splitlines()
    ]
    assert len(lines) > 5000
    wrong = [(path.name, text[:80]) for path, text in [*lines, *sentences()] if DECIMAL.search(text)]
    assert wrong == []


def test_no_other_code_puts_a_unit_behind_a_number():
    assert [(path.name, text[:80]) for path, text in sentences() if BINARY.search(text)] == []


def test_it_runs_without_the_framework():
    code = (
        "from core.sizes import human_bytes; import sys; assert 'django' not in sys.modules; print(human_bytes(2048))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    assert told.stdout == "2 KiB\n"
