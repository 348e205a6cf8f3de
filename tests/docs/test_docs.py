"""The documentation names what the code has, and nothing that it has not."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from drf_spectacular.generators import SchemaGenerator

from core.sizes import human_bytes
from jobs.execution import collect, names
from jobs.execution.spec import Limits
from jobs.models import ErrorCode

ROOT = Path(settings.BASE_DIR)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
_SETTING = re.compile(r'(?:env\.[a-z]+|secret)\(\s*"([A-Z][A-Z0-9_]*)"')


def settings_read() -> set[str]:
    found = set(_SETTING.findall((ROOT / "leaderboard_site" / "settings.py").read_text()))
    # NAME_FILE belongs to NAME, and is documented with it.
    return {name for name in found if name.removesuffix("_FILE") not in found - {name}}


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def anchors(markdown: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_settings_found_in_the_code_are_plausible():
    assert {"DATABASE_URL", "SECRET_KEY", "LEASE_SECONDS", "S3_SECRET_KEY"} <= settings_read()
    assert len(settings_read()) > 50


def test_configuration_page_names_every_setting_once_and_no_other():
    documented = re.findall(r"^\| `([A-Z][A-Z0-9_]*)`", text_of("docs/configuration.md"), re.MULTILINE)
    assert sorted(documented) == sorted(settings_read())


def test_env_example_names_every_setting_once_and_no_other():
    documented = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text_of(".env.example"), re.MULTILINE)
    assert sorted(documented) == sorted(settings_read())


def test_env_example_sets_nothing_by_itself():
    assert re.findall(r"^[^#\n].*", text_of(".env.example"), re.MULTILINE) == []


def test_api_page_has_a_heading_for_every_call_and_no_other():
    schema = SchemaGenerator().get_schema(request=None, public=True)
    calls = {f"{method.upper()} {path}" for path, methods in schema["paths"].items() for method in methods}
    documented = re.findall(r"^### ([A-Z]+ /\S+)$", text_of("docs/api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(calls)


def test_api_page_names_every_code_that_a_refusal_can_have():
    sources = [
        path for path in ROOT.glob("*/*.py") if path.parent.name in ("accounts", "jobs", "leaderboards", "submissions")
    ]
    refusal = r'(?:InvalidInput|Conflict|NotFound|QuotaExceeded|TooLarge|Unavailable|LengthRequired)\(\s*f?"([a-z_]+)"'
    codes = {code for path in sources for code in re.findall(refusal, path.read_text())}
    assert "missing_entrypoint" in codes
    page = text_of("docs/api.md")
    assert sorted(code for code in codes if f"`{code}`" not in page) == []


def test_errors_page_names_every_error_code_once_and_no_other():
    documented = re.findall(r"^\| `([a-z_]+)`", text_of("docs/errors.md"), re.MULTILINE)
    assert sorted(documented) == sorted(ErrorCode.values)


def test_submissions_page_names_the_limits_that_hold():
    rules = text_of("docs/submissions.md").partition("## Artifacts")[2].partition("## ")[0]
    for limit in (
        f"{collect.MAX_ARTIFACTS:,} files", f"{names.MAX_DEPTH} folders deep", f"{names.MAX_NAME_BYTES} bytes",
        f"{names.MAX_PATH_BYTES} bytes", f"the first {collect.MOST_TOLD},",
    ):  # fmt: skip
        assert limit in rules
    rows = re.findall(r"^\| ([a-z ]+|`/tmp`) \| (.+?) \| (.+?) \|$", text_of("docs/submissions.md"), re.MULTILINE)
    table = {name: [first, first if second == "the same" else second] for name, first, second in rows}
    for column, resource_class in enumerate(("small", "medium")):
        limits = Limits(**settings.RESOURCE_CLASSES[resource_class])
        assert {
            name: row[column]
            for name, row in table.items()
            if name in ("wall time", "memory", "one file", "output folder", "`/tmp`")
        } == {
            "wall time": f"{limits.wall_seconds // 60:.0f} minutes",
            "memory": human_bytes(limits.memory_bytes),
            "one file": human_bytes(limits.file_bytes),
            "output folder": f"{human_bytes(limits.output_bytes)}, {limits.output_inodes:,} files",
            "`/tmp`": human_bytes(limits.tmp_bytes),
        }


def test_the_japanese_readme_leads_wherever_the_english_one_does():
    links = re.compile(r"\]\(([^)]+)\)|^    (curl .*|make \w+)", re.MULTILINE)
    english, japanese = (set(links.findall(text_of(name))) for name in ("README.md", "README.ja.md"))
    assert english - {("README.ja.md", "")} == japanese - {("README.md", "")}


def test_every_command_of_ours_is_documented():
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    assert "create_token" in commands
    told = "".join(page.read_text() for page in PAGES)
    assert sorted(name for name in commands if f"manage.py {name}" not in told) == []


def test_every_target_of_the_makefile_that_is_documented_exists():
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    told = {name for page in PAGES for name in re.findall(r"`make ([a-z][a-z-]+)", page.read_text())}
    assert {"run", "test"} <= told
    assert sorted(told - targets) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert broken == []
