"""Upload code and run it."""

from __future__ import annotations

import argparse
import time
import uuid
from pathlib import Path
from typing import Any

from core.sizes import human_bytes
from leaderboard_site.client.commands import cancel, follow, restore, withdraw
from leaderboard_site.client.faults import COMPLETED, Wrong
from leaderboard_site.client.language import say
from leaderboard_site.client.packing import named, packed
from leaderboard_site.client.session import Session, read_config, submission_id
from leaderboard_site.client.upload_body import Progress

EXAMPLES = [
    ("submit my_model/ --leaderboard textures", "a whole folder, packed on the way"),
    ("main.py config.yaml --leaderboard textures", "two files; `submit` may be left out"),
    ("code.zip --leaderboard textures --class medium", "an archive, in another resource class"),
    ('my_model/ --leaderboard textures --name "larger backbone"', "under a name, to find it again"),
    ("my_model/ --leaderboard textures --config '{\"seed\": 2}'", "values laid over the config file"),
    ("my_model/ --leaderboard textures --trial", "a run that never ranks"),
    ("my_model/ --leaderboard textures --no-follow", "only enqueue; prints the job's id"),
    ("--submission SUBMISSION --config @other.json", "run what is uploaded already"),
]
# The older spelling of four commands.
OLDER = {"job": follow, "cancel": cancel, "withdraw": withdraw, "restore": restore}


def summary() -> str:
    return say("Upload code, run it, show its log live, print the result and the rank.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="*", type=Path, metavar="PATH", help=say("Files, one archive, or one folder."))
    add("--submission", metavar="ID", help=say("Run this submission, which is uploaded already."))
    add("--leaderboard", metavar="SLUG", help=say("Where it competes (by default: default)."))
    add("--name", help=say("What the submission is called on the pages."))
    add("--entrypoint", metavar="FILE", help=say("The file that is run (by default: main.py)."))
    add("--config-file", metavar="FILE", help=say("The file passed as --config (by default: config.yaml)."))
    add("--class", dest="resource_class", default="small", help=say("Resource class (by default: small)."))
    add("--config", metavar="JSON", help=say("A JSON object laid over the config file; @FILE reads one."))
    add("--trial", action="store_true", help=say("A trial run: it never ranks."))
    add("--writable-code", action="store_true", help=say("The run may write to its own copy of the code folder."))
    add("--no-follow", dest="follow", action="store_false", help=say("Enqueue it and end."))
    add("--follow", dest="follow", action="store_true", default=True, help=say("Show the log (the default)."))
    for name in OLDER:
        add(f"--{name}", dest=f"{name}_job", metavar="JOB", help=argparse.SUPPRESS)


def run(session: Session) -> int:
    options = session.options
    if older := [name for name in OLDER if getattr(options, f"{name}_job")]:
        if len(older) > 1:
            raise Wrong(say("{0}: not together with {1}.").format(*(f"--{name}" for name in older)))
        options.job = getattr(options, f"{older[0]}_job")
        code: int = OLDER[older[0]].run(session)
        return code
    config = read_config(options.config)  # told before anything is sent
    submission = _chosen(options) or _upload(session)
    job = _enqueue(session, submission, config)
    options.job = job["job_id"]
    session.console.tell(say("Job {job} is enqueued: {url}").format(job=options.job, url=session.address(options.job)))
    if options.follow:
        return follow.run(session)
    session.console.result({**job, "submission_id": submission}, options.job)
    return COMPLETED


def _chosen(options: argparse.Namespace) -> str:
    """Return the submission of `--submission`, if given."""
    if not options.submission:
        return ""
    if options.paths:
        raise Wrong(say("--submission: it is uploaded already; give no PATH."))
    for name in ("leaderboard", "name", "entrypoint", "config_file", "writable_code"):
        if getattr(options, name):
            option = "--" + name.replace("_", "-")
            raise Wrong(say("{option}: is decided by the upload; not with --submission.").format(option=option))
    return submission_id(options.submission)


def _enqueue(session: Session, submission: str, config: dict[str, Any]) -> dict[str, Any]:
    options = session.options
    body = {
        "submission_id": submission,
        "config": config,
        "resource_class": options.resource_class,
        "trial": options.trial,
    }
    key = {"Idempotency-Key": uuid.uuid4().hex}  # so that asking again makes no second job
    client = session.client
    job: dict[str, Any] = client.patiently(lambda: client.json("POST", "/api/jobs", body, key), session.console.tell)
    session.followed = job["job_id"]
    return job


def _upload(session: Session) -> str:
    options, tell = session.options, session.console.tell
    fields = {
        "leaderboard": options.leaderboard or "default",
        "entrypoint": options.entrypoint or "main.py",
        "config_file": options.config_file or "config.yaml",
    }
    if options.name:
        fields["name"] = options.name
    if options.writable_code:
        fields["writable_code"] = "true"
    with packed(options.paths) as (files, left_out):
        if left_out:
            tell(say("Left out: {names}.").format(names=named(left_out)))
        total = sum(path.stat().st_size for path in files)
        names = ", ".join(path.name for path in options.paths)[:200] or str(options.paths[0])
        tell(say("Uploading {names} ({size})").format(names=names, size=human_bytes(total)))
        answer = session.client.submit(files, progress=_progress(session), **fields)
    if options.name and "name" not in answer:
        tell(say("This site is older and keeps no names of submissions: --name was ignored."))
    return str(answer["submission_id"])


def _progress(session: Session) -> Progress:
    last = [0.0]

    def show(sent: int, total: int) -> None:
        if time.monotonic() - last[0] > 0.2 or sent == total:
            last[0] = time.monotonic()
            percent, sizes = 100 * sent // max(total, 1), (human_bytes(sent), human_bytes(total))
            words = say("{percent} %  {sent} of {total}").format(percent=f"{percent:3d}", sent=sizes[0], total=sizes[1])
            session.console.progress(words, is_last=sent == total)

    return show
