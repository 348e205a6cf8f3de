"""`manage.py worker`: runs jobs on this machine."""

import dataclasses
import logging
import subprocess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections

from accounts.commands import TaughtCommand
from core.environments import is_half_made
from jobs.draining import drain
from jobs.execution import janitor
from jobs.execution.preflight import is_tight
from jobs.execution.spec import EXECUTORS
from jobs.gpus import GpuError, HeldGpus
from jobs.sandbox import container, probe_sandbox
from jobs.worker import make_worker

logger = logging.getLogger("jobs.worker")


class Command(TaughtCommand):
    help = (
        "Run jobs on this machine, one at a time, until stopped. Before it takes any it tries to break out of its own "
        "sandbox, and refuses to work if it can. SIGTERM finishes the job in hand and ends; a second one gives it back."
    )
    examples = """\
  manage.py worker                      all classes, no GPU
  manage.py worker --gpu 0 --classes small medium
  manage.py worker --drain              before an upgrade: they finish their job and stop
  manage.py worker --drain-now          they give their job back
"""

    # They load every page and form of the site, which a worker would keep in memory as long as it lives; the web process,
    # `migrate` and `check` run them.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser):
        known = ", ".join(settings.RESOURCE_CLASSES)
        parser.add_argument(
            "--classes", nargs="+", metavar="CLASS", help=f"Resource classes to serve (default: all: {known})."
        )
        parser.add_argument(
            "--gpu",
            type=int,
            action="append",
            default=[],
            metavar="N",
            help="Give runs this GPU (index of nvidia-smi).",
        )
        parser.add_argument("--burst", action="store_true", help="End when no job is due.")
        parser.add_argument("--max-jobs", type=int, metavar="N", help="End after N jobs.")
        parser.add_argument(
            "--drain", action="store_true", help="Start nothing: have this machine's workers stop after their job."
        )
        parser.add_argument(
            "--drain-now",
            action="store_true",
            help="Start nothing: have them give their job back and stop, within 30 s.",
        )

    def handle(self, **options: Any) -> None:
        if options["drain"] or options["drain_now"]:
            self._drain(now=options["drain_now"])
            return
        classes = options["classes"] or list(settings.RESOURCE_CLASSES)
        if unknown := set(classes) - set(settings.RESOURCE_CLASSES):
            raise CommandError(
                f"--classes: unknown {', '.join(sorted(unknown))}; known: {', '.join(settings.RESOURCE_CLASSES)}."
            )
        refuse_executor()
        refuse_missing_runner()
        self._clear_stale()
        report = probe_sandbox()
        if not is_tight(report) and settings.EXECUTOR != "unsafe-local":
            for found in report:
                if not found.contained:
                    logger.error("sandbox: %s: %s", found.what, found.how)
            raise CommandError("The sandbox is open on this machine; no job is taken. See `manage.py check_sandbox`.")
        try:
            gpus = HeldGpus.take(tuple(options["gpu"]))
        except GpuError as error:
            raise CommandError(str(error))
        if settings.PREPARED_STATEMENTS:
            prepare_statements()
        worker = make_worker(classes, gpus=gpus)
        worker.sandbox_report = [dataclasses.asdict(found) for found in report]
        worker.limits = report.limits_applied
        logger.info("worker %s serves %s", worker.name, ", ".join(classes))
        worker.work(burst=options["burst"], max_jobs=options["max_jobs"])

    def _clear_stale(self) -> None:
        try:
            janitor.clear_stale(settings.WORK_ROOT, container())
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandError(f"What earlier workers left could not be cleared away: {error}.") from error

    def _drain(self, *, now: bool) -> None:
        longest = max(limits["wall_seconds"] for limits in settings.RESOURCE_CLASSES.values())
        stopped, left = drain(now=now, wait_seconds=30 if now else longest + 900)
        for worker in stopped:
            self.stdout.write(f"{worker.name} has stopped.")
        if left:
            raise CommandError(f"Still running: {', '.join(f'{worker.name} (pid {worker.pid})' for worker in left)}.")
        if not stopped:
            self.stdout.write("No worker runs on this machine.")


def prepare_statements() -> None:
    """Have the server bind and plan what is asked again and again once a connection, from the next connection on. A worker's
    guards stand beside a primary key, so that a plan for any values is good; `_claim` throws plans of small tables away."""
    connections.settings["default"]["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 2}
    connections.close_all()
    del connections["default"]


def refuse_executor() -> None:
    """An unknown one; and the one without isolation needs DEBUG and an explicit setting."""
    if settings.EXECUTOR not in EXECUTORS:
        raise CommandError(f"EXECUTOR: {settings.EXECUTOR!r} is unknown; known: {', '.join(EXECUTORS)}.")
    if settings.EXECUTOR == "unsafe-local" and not (settings.DEBUG and settings.ALLOW_UNSAFE_EXECUTOR):
        raise CommandError(
            "EXECUTOR=unsafe-local runs strangers' code unprotected: it needs DEBUG=1 and ALLOW_UNSAFE_EXECUTOR=1."
        )


def refuse_missing_runner() -> None:
    """Without the interpreter no attempt of a probe would run, and a tight sandbox would be called open."""
    if settings.EXECUTOR == "container":
        return
    if is_half_made(settings.RUNNER_PYTHON):
        raise CommandError(
            f"RUNNER_PYTHON: the environment of {settings.RUNNER_PYTHON} is unfinished: it is being made, or making it was "
            "interrupted. `make environments` or `make worker-environment`, which made it, completes it."
        )
    if not Path(settings.RUNNER_PYTHON).exists():
        raise CommandError(
            f"RUNNER_PYTHON: there is no {settings.RUNNER_PYTHON}, which runs submissions. `make environments` makes the "
            "default one; where it lies elsewhere, set RUNNER_PYTHON, or LEADERSBOARD_ENVIRONMENTS as for `make run`."
        )
