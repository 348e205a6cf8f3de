"""docker/Dockerfile: linted by hadolint, and what a linter does not know. `make images-drill` builds it."""

import json
import re
import subprocess

import pytest

from .conftest import ROOT

TEXT = (ROOT / "docker" / "Dockerfile").read_text()
# Joined lines, without comments.
LINES = [
    line
    for line in re.sub(
        r"\\\n", " ", "\n".join(one for one in TEXT.splitlines() if not one.startswith("#"))
    ).splitlines()
    if line.strip()
]
FINAL = ("web", "worker", "mlflow", "dev")


def stages() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in LINES:
        if begun := re.match(r"FROM (\S+) AS (\S+)", line):
            found[begun[2]] = [line]
        elif found:
            found[list(found)[-1]].append(line)
    return found


def test_hadolint_has_no_complaint(tool):
    done = tool("hadolint", "docker/Dockerfile")
    assert (done.stdout, done.returncode) == ("", 0)


def test_there_is_one_base_and_it_has_a_patch_version():
    [base] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base)
    assert {line.split()[1] for one in stages().values() for line in one[:1]} <= {"${PYTHON_IMAGE}", "base", "site"}
    assert base in (ROOT / "docker-compose.yml").read_text()


def test_every_python_package_comes_by_its_hash():
    installs = re.findall(r"pip install (.*?);", " ".join(LINES))
    assert len(installs) >= 5
    assert [words for words in installs if "--require-hashes" not in words] == []


@pytest.mark.parametrize("target", FINAL)
def test_images_run_as_the_fixed_user(target):
    users = [line.split()[1] for line in stages()[target] if line.startswith("USER ")]
    assert users == ["10001:10001"]
    after = stages()[target][stages()[target].index("USER 10001:10001") :]
    assert [line for line in after if line.startswith(("RUN", "COPY"))] == []


def test_only_the_worker_has_the_runs_environment_and_the_web_no_torch():
    copies = {target: " ".join(stages()[target]) for target in ("web", "worker", "mlflow")}
    assert [target for target, text in copies.items() if "/opt/runner" in text] == ["worker"]
    assert "torch" not in (ROOT / "requirements" / "web.txt").read_text()


def test_context_is_a_list_of_what_goes_in():
    told = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in told if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {line.removeprefix("!").split("/")[0] for line in rules if line.startswith("!")}
    assert kept & {"secrets", "var", ".env", ".git", "tests", "backups"} == set()
    apps = {path.parent.name for path in ROOT.glob("*/apps.py")}
    assert apps <= kept


@pytest.mark.parametrize("target", ["web", "worker", "mlflow"])
def test_commands_are_lists_so_that_signals_arrive(target):
    for line in stages()[target]:
        if line.startswith(("CMD", "ENTRYPOINT")):
            assert isinstance(json.loads(line.split(" ", 1)[1]), list)


def test_shell_programs_are_valid():
    for name in (
        "docker/mlflow-server",
        "deploy/make-secrets",
        "deploy/postgres/make-databases.sh",
        "deploy/systemd/worker",
    ):
        path = ROOT / name
        assert path.stat().st_mode & 0o111, name
        shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
        subprocess.run([shell, "-n", str(path)], check=True)


def test_both_copies_of_the_databases_script_are_the_same():
    # kustomize reads nothing above its own folder.
    copies = [ROOT / "deploy" / name / "make-databases.sh" for name in ("postgres", "kubernetes/databases")]
    assert copies[0].read_text() == copies[1].read_text()
