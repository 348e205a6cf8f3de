"""This machine: software, folders, disk, secrets, GPU and sandbox."""

import os
import platform
import shutil
import stat
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from core.sizes import human_bytes
from jobs import gpus as cards
from jobs.execution.limit_table import WORDS, held_limits, lacking
from jobs.execution.preflight import is_tight
from jobs.sandbox import probe_sandbox
from leaderboard_site.doctor.findings import Found
from leaderboard_site.embedded import locations
from leaderboards.models import Leaderboard

PACKAGES = ("django", "djangorestframework", "psycopg", "redis", "rq", "mlflow-skinny", "gunicorn")
LEAST_FREE_SHARE, LEAST_FREE_BYTES = 0.05, 1024**3
SHORTEST_SECRET = 32
WEAK = ("secret", "changeme", "password", "insecure", "a-long-random-text")


def software(found: Found) -> None:
    found.ok(f"Python {platform.python_version()}; " + ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    if settings.DEBUG and not settings.EMBEDDED:
        found.wrong("DEBUG is on in production", "set DEBUG=0")
    if settings.METRICS and not (settings.METRICS_TOKEN or settings.METRICS_NETWORKS):
        found.warning("nobody may read /metrics", "set METRICS_TOKEN or METRICS_NETWORKS, or METRICS=0")


def folders() -> dict[str, Path]:
    """The folders that this machine needs, by their setting's name."""
    found = {"WORK_ROOT": settings.WORK_ROOT, "UPLOAD_TEMP_DIR": Path(settings.FILE_UPLOAD_TEMP_DIR)}
    if settings.STORAGE == "filesystem":
        found |= {"UPLOAD_ROOT": settings.UPLOAD_ROOT, "ARTIFACT_ROOT": settings.ARTIFACT_ROOT}
    return found


def disk(found: Found) -> None:
    for name, folder in folders().items():
        place = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
        if not os.access(place, os.W_OK | os.X_OK):
            found.wrong(f"{name} ({folder}) cannot be written", f"chown -R $(id -u) {place}")
            continue
        state = os.statvfs(place)
        free, total = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
        if free < max(LEAST_FREE_BYTES, total * LEAST_FREE_SHARE):
            found.wrong(f"{name} ({folder}): {human_bytes(free)} free of {human_bytes(total)}",
                        "manage.py prune_jobs --days 30, or a larger disk")  # fmt: skip
        elif state.f_files and state.f_favail < state.f_files * LEAST_FREE_SHARE:
            found.wrong(f"{name} ({folder}): {state.f_favail} inodes free of {state.f_files}",
                        "manage.py prune_jobs --days 30, or a file system with more inodes")  # fmt: skip
        else:
            found.ok(f"{name} ({folder}): {human_bytes(free)} and {state.f_favail or 'any number of'} inodes free")


def secrets(found: Found) -> None:
    """Long, not a known word, and files of secrets readable by their owner alone. No value is shown."""
    before = len(found.findings)
    _strength(found, "SECRET_KEY", settings.SECRET_KEY)
    if settings.METRICS_TOKEN:
        _strength(found, "METRICS_TOKEN", settings.METRICS_TOKEN)
    password = settings.DATABASES["default"].get("PASSWORD", "")
    if not settings.EMBEDDED and (len(password) < 12 or password.lower() in WEAK):
        found.warning(
            "the password in DATABASE_URL is missing or short", "ALTER ROLE ... PASSWORD, and DATABASE_URL_FILE"
        )
    if urlsplit(settings.MLFLOW_PUBLIC_URL).password:
        found.wrong("MLFLOW_PUBLIC_URL holds a password, and it is shown to people", "take it out of the address")
    for path in _secret_files():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            found.wrong(f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
    if len(found.findings) == before:
        found.ok("long enough, and readable by their owner alone")


def _strength(found: Found, name: str, value: str) -> None:
    if len(value) < SHORTEST_SECRET or len(set(value)) < 8 or any(word == value.lower() for word in WEAK):
        found.wrong(
            f"{name} is short or not random",
            f"python3 -c 'import secrets; print(secrets.token_urlsafe(48))' > FILE, {name}_FILE=FILE",
        )


def _secret_files() -> list[Path]:
    """Ours under var/, .env, and what NAME_FILE names, where this user can see them."""
    given = [os.environ.get(f"{name}_FILE") for name in sorted(settings.SECRET_NAMES)]
    named = [Path(path) for path in given if path]
    # /run/secrets is the container engine's own, readable in the container by design.
    named = [path for path in named if not path.is_relative_to("/run/secrets")]
    ours = [settings.VAR_DIR / "secret_key", settings.BASE_DIR / ".env", *settings.VAR_DIR.glob("*.password")]
    return [path for path in [*named, *ours] if path.is_file()]


def datasets(found: Found) -> None:
    names = set(Leaderboard.objects.exclude(dataset="").values_list("dataset", flat=True))
    missing = sorted(name for name in names if not (Path(settings.DATASET_ROOT) / name).is_dir())
    if missing:
        found.warning(
            f"{missing[0]} is not on this machine: a worker here does not take its jobs",
            f"copy it to {settings.DATASET_ROOT}/{missing[0]}",
        )
    else:
        found.ok(f"{len(names)} of {len(names)} data sets are on this machine")


def gpu(found: Found) -> None:
    if shutil.which("nvidia-smi") is None:
        if Path("/dev/nvidiactl").exists():
            found.wrong("there is an NVIDIA device, but no nvidia-smi", "install the driver's tools (nvidia-utils)")
        else:
            found.ok("none: runs use the processor")
        return
    try:
        present = cards.present()
    except cards.GpuError as error:
        found.wrong(str(error), "nvidia-smi; after a driver's upgrade: reboot")
        return
    for card in present:
        used, total = human_bytes(card.memory_used_bytes), human_bytes(card.memory_total_bytes)
        found.ok(f"{card.index}: {card.name}, {used} of {total} in use")
    if not present:
        found.wrong("nvidia-smi knows no card", "lspci | grep -i nvidia; look at the driver")


def environments(found: Found) -> None:
    """Name the environments for submissions that an interrupted or running `make` left unfinished: none of them is used."""
    for folder in locations.unfinished_environments():
        sentence = f"the environment {folder} is unfinished; runs use {settings.RUNNER_PYTHON}"
        found.warning(sentence, locations.made_by(folder.name))


def _limits(found: Found, applied: dict[str, str]) -> None:
    """Say of each limit whether it is enforced, watched or not there."""
    for kind, words in WORDS.items():
        if of_kind := [f"{one.label} ({one.by})" for one in held_limits(applied) if one.kind == kind]:
            found.ok(f"limits {words}: {', '.join(of_kind)}")
    if told := ", ".join(f"{one.label}: {one.words}" for one in lacking(applied)):
        found.warning(
            f"a worker here can write no control group ({told})", "run workers under systemd; docs/security.md#limits"
        )


def sandbox(found: Found) -> None:
    if not Path(settings.RUNNER_PYTHON).exists() and settings.EXECUTOR == "bubblewrap":
        found.wrong(f"RUNNER_PYTHON ({settings.RUNNER_PYTHON}) is missing", "make environments")
        return
    environments(found)
    report = probe_sandbox()
    if is_tight(report):
        found.ok(f"{settings.EXECUTOR}: {len(report)} attempts to break out were contained")
        _limits(found, report.limits_applied)
        return
    for one in report:
        if not one.contained:
            found.wrong(
                f"{settings.EXECUTOR} is open: {one.what}: {one.how}", "manage.py check_sandbox; docs/security.md"
            )
