"""The stored files of every storage that the settings name, whatever its backend; and which of them rows name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage, storages

from jobs.models import Job
from submissions.models import Submission
from submissions.storage import STORAGE_ERRORS

# Uploads under way, and what /readyz and doctor try the storage with.
PASSING = ("incoming", "ready", "doctor")


def kept_storages() -> dict[str, Storage]:
    """{alias: storage}, each place once; static files are made from the code."""
    found: dict[str, Storage] = {}
    places = []
    for alias in sorted(settings.STORAGES, key=lambda alias: alias == "default"):
        options = {**settings.STORAGES[alias], "alias": None}
        if alias != "staticfiles" and options not in places:
            places.append(options)
            found[alias] = storages[alias]
    return found


def stored_names(storage: Storage, folder: str = "") -> Iterator[str]:
    """Every file in the storage, folder by folder."""
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    prefix = f"{folder}/" if folder else ""
    yield from (prefix + name for name in sorted(files) if name)
    for inner in sorted(folders):
        if inner and (folder or inner not in PASSING):
            yield from stored_names(storage, prefix + inner)


def named_files() -> Iterator[tuple[str, str]]:
    """(alias, name) of every file that a row names; read it inside the snapshot."""
    for name in (
        Submission.objects.filter(deleted_at=None).values_list("object_name", flat=True).iterator(chunk_size=2000)
    ):
        yield "submissions", name
    jobs = Job.objects.values_list("log_name", "scorer_log_name", "artifacts").iterator(chunk_size=2000)
    for log_name, scorer_log_name, artifacts in jobs:
        yield from (("artifacts", name) for name in (log_name, scorer_log_name) if name)
        yield from (("artifacts", item["name"]) for item in artifacts)


def put_back(storage: Storage, name: str, source: IO[bytes]) -> None:
    """Store the file under exactly this name, in the place of one that is there."""
    storage.delete(name)
    saved = storage.save(name, File(source, name=Path(name).name))
    if saved != name:
        raise OSError(f"{name} was stored as {saved}")


def copy_all(storage: Storage, add: Callable[[str, IO[bytes]], Any]) -> Iterator[str]:
    """Hand every stored file to `add`; the names of those that were. One that goes meanwhile (retention) is left out."""
    for name in stored_names(storage):
        try:
            stored = storage.open(name)
        except FileNotFoundError:
            continue
        with stored:
            add(name, stored)
        yield name


__all__ = ["STORAGE_ERRORS", "copy_all", "kept_storages", "named_files", "put_back", "stored_names"]
