"""Show what a job left, and download it."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from core.names import shown
from leaderboard_site.client.faults import COMPLETED, NOT_COMPLETED, LocalFault, NoAnswer, reason
from leaderboard_site.client.language import say
from leaderboard_site.client.report import gather, in_words
from leaderboard_site.client.session import Session, job_id

EXAMPLES = [
    ("results JOB", "metrics, rank, or why it does not rank; its artifacts"),
    ("results JOB --download out/", "its artifacts too, below out/"),
    ("results JOB --json", "all of it for a program"),
]


def summary() -> str:
    return say("Show the metrics, rank and artifacts of an ended job; --download fetches the artifacts.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help=say("The job's id."))
    parser.add_argument("--download", type=Path, metavar="DIR", help=say("Write the artifacts below this folder."))
    parser.add_argument("--force", action="store_true", help=say("Overwrite files that differ."))


def run(session: Session) -> int:
    options, job = session.options, job_id(session.options.job)
    result = gather(session, job)
    if options.download:
        downloads = _Downloads(session, job, options.download, is_forced=options.force)
        result["downloaded"] = [str(downloads.fetch(item)) for item in result["artifacts"]]
    session.console.result(result, in_words(result, result["notes"], has_artifacts=True))
    return COMPLETED if result["status"] == "completed" else NOT_COMPLETED


class _Downloads:
    def __init__(self, session: Session, job: str, folder: Path, *, is_forced: bool) -> None:
        self.session, self.job, self.folder, self.is_forced = session, job, folder, is_forced

    def fetch(self, item: dict[str, Any]) -> Path:
        """Download one artifact, unless it is there already; its path."""
        target = self._target(item["path"])
        try:
            if target.exists():
                if _sha256(target) == item["sha256"]:
                    return target
                if not self.is_forced:
                    sentence = say("{name} is there and differs; --force overwrites it.")
                    raise LocalFault(sentence.format(name=target))
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{os.getpid()}.part")
            try:
                self._write(item, unfinished)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
        except NoAnswer:
            raise
        except OSError as error:
            raise LocalFault(say("A file cannot be written: {why}.").format(why=reason(error))) from error
        self.session.console.tell(say("Downloaded {name}").format(name=target))
        return target

    def _write(self, item: dict[str, Any], unfinished: Path) -> None:
        path = f"/api/jobs/{self.job}/artifacts/{quote(item['path'])}"

        def attempt() -> None:
            with unfinished.open("wb") as file:
                self.session.client.download(path, file)
            if _sha256(unfinished) != item["sha256"]:
                raise NoAnswer(say("{name} arrived incomplete").format(name=item["path"]))

        self.session.client.patiently(attempt, self.session.console.tell)

    def _target(self, path: str) -> Path:
        """Return where an artifact goes; never outside of the folder, whatever the site calls it."""
        parts = PurePosixPath(path).parts
        if not parts or any(part in ("/", "..") or "\\" in part or (os.name == "nt" and ":" in part) for part in parts):
            raise LocalFault(say("The artifact {name} would leave the folder.").format(name=shown(path, 300)))
        return self.folder.joinpath(*parts)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1024 * 1024):
            digest.update(part)
    return digest.hexdigest()
