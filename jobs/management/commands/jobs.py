"""`manage.py jobs list|show|cancel|rerun`: for operators, through the same services as the console, and recorded."""

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import CommandError
from django.db.models.functions import Now

from accounts.commands import TaughtCommand, shown_time
from accounts.models import User
from accounts.refusals import RequestRefused
from jobs.models import ErrorCode, Job, JobQuerySet, Status
from jobs.queries import mlflow_ui_link, read_log, read_scorer_log
from jobs.services import cancel_job, rerun_job
from jobs.waiting import waiting
from leaderboards.models import Leaderboard
from leaderboards.ranking_state import ranking_state

LARGEST_LIST = 10_000
UNITS = {"m": 60, "h": 3600, "d": 86400}


class Command(TaughtCommand):
    help = "Look at jobs, cancel them, run them again. Cancelling and running again are recorded with who and why."
    examples = """\
  manage.py jobs list --status running
  manage.py jobs list --user ada --since 2d --error timeout --json
  manage.py jobs show JOB --log
  manage.py jobs show JOB --scorer-log      what the leaderboard's scorer said: for operators alone
  manage.py jobs cancel JOB [JOB...] --as operator --reason "the data set was wrong"
  manage.py jobs list --leaderboard textures --status failed --since 3h --ids | xargs manage.py jobs rerun --as operator
"""

    def add_arguments(self, parser):
        actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|cancel|rerun")
        listing = actions.add_parser("list", help="Jobs, newest first.")
        listing.add_argument("--status", choices=Status.values)
        listing.add_argument("--user", metavar="NAME")
        listing.add_argument("--leaderboard", metavar="SLUG")
        listing.add_argument("--class", dest="resource_class", metavar="CLASS")
        listing.add_argument("--error", choices=ErrorCode.values, metavar="CODE")
        listing.add_argument("--since", metavar="2h", help="Made since: so many m(inutes), h(ours) or d(ays).")
        listing.add_argument("--limit", type=int, default=50, help="At most so many (%(default)s).")
        form = listing.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="A JSON list.")
        form.add_argument("--ids", action="store_true", help="The ids alone, one a line.")
        showing = actions.add_parser("show", help="Everything about one job.")
        showing.add_argument("job")
        showing.add_argument("--log", action="store_true", help="Its log too.")
        showing.add_argument("--scorer-log", action="store_true", help="The log of the scorer that measured it.")
        showing.add_argument("--json", action="store_true")
        for name, what in (("cancel", "Cancel jobs."), ("rerun", "Run ended jobs again, behind all new work.")):
            acting = actions.add_parser(name, help=what)
            acting.add_argument("jobs", nargs="+", metavar="JOB")
            acting.add_argument("--as", dest="operator", metavar="NAME", help="The operator who does it.")
            acting.add_argument("--reason", default="", help="Why; kept with the record.")
            acting.add_argument("--json", action="store_true")

    def handle(self, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        if not 1 <= options["limit"] <= LARGEST_LIST:
            raise CommandError(f"--limit: from 1 to {LARGEST_LIST}, not {options['limit']}.")
        jobs = self._filtered(options).select_related("user", "leaderboard", "submission")
        jobs = jobs.defer("submission__manifest", "submission__metadata").newest_first()[: options["limit"]]
        if options["ids"]:
            for job in jobs:
                self.stdout.write(str(job.pk))
        elif options["json"]:
            self.write_json([_row(job) for job in jobs])
        else:
            heads = ["job", "status", "person", "leaderboard", "class", "score", "error", "by", "created"]
            names = ["job_id", "status", "user", "leaderboard", "resource_class", "score", "error_code"]
            rows = [
                [
                    *(row[name] for name in names),
                    "operator" if row["started_by_operator"] else "",
                    row["created_at"],
                ]
                for row in ({**_row(job), "status": _status(job)} for job in jobs)
            ]
            self.write_table(heads, rows)

    def _filtered(self, options: dict[str, Any]) -> JobQuerySet:
        # A name that is misspelt must not read as "nothing there".
        if options["user"] and not User.objects.filter(username=options["user"]).exists():
            raise CommandError(f"--user: there is no user {options['user']!r}.")
        if options["leaderboard"] and not Leaderboard.objects.filter(slug=options["leaderboard"]).exists():
            raise CommandError(
                f"--leaderboard: there is no {options['leaderboard']!r}; `manage.py leaderboard` lists them."
            )
        # A class that the settings no longer have may still have jobs.
        name, jobs = options["resource_class"], Job.objects.all()
        if name and name not in settings.RESOURCE_CLASSES and not jobs.filter(resource_class=name).exists():
            raise CommandError(f"--class: there is no {name!r}; known: {', '.join(settings.RESOURCE_CLASSES)}.")
        fields = {"status": "status", "user": "user__username", "leaderboard": "leaderboard__slug",
                  "resource_class": "resource_class", "error": "error_code"}  # fmt: skip
        jobs = jobs.filter(**{field: options[name] for name, field in fields.items() if options[name]})
        if options["since"]:
            found = re.fullmatch(r"(\d{1,5})([mhd])", options["since"])
            if not found:
                raise CommandError(f"--since: a number and m, h or d, such as 90m or 2d, not {options['since']!r}.")
            jobs = jobs.filter(created_at__gt=Now() - timedelta(seconds=int(found[1]) * UNITS[found[2]]))
        return jobs

    def _show(self, options: dict[str, Any]) -> None:
        job = self._job(options["job"])
        told = _row(job) | _details(job)
        if options["log"]:
            told["log"] = _log(job)
        if options["scorer_log"]:
            told["scorer_log"] = read_scorer_log(job)
        if options["json"]:
            self.write_json(told)
            return
        log, scorer_log = told.pop("log", None), told.pop("scorer_log", None)
        attempts, notes = told.pop("attempts"), told.pop("notes")
        for name, value in told.items():
            if value not in (None, "", {}, []):
                self.stdout.write(f"{name:<20} {shown_time(value) if isinstance(value, datetime) else value}")
        for attempt in attempts:
            self.stdout.write(
                f"attempt {attempt['number']:<12} {attempt['outcome']} on {attempt['worker']}: {attempt['detail']}"
            )
        for note in notes:
            self.stdout.write(f"{'note':<20} {note}")
        for title, text in (("log", log), ("scorer's log", scorer_log)):
            if text is not None:
                self.stdout.write(f"--- {title}\n{text}")

    def _cancel(self, options: dict[str, Any]) -> None:
        self._each(options, lambda job, by: {"status": str(cancel_job(job, by=by, reason=options["reason"]))})

    def _rerun(self, options: dict[str, Any]) -> None:
        self._each(options, lambda job, by: {"new_job_id": rerun_job(job, by=by, reason=options["reason"]).pk})

    def _each(self, options: dict[str, Any], act: Any) -> None:
        by = self._operator(options["operator"])
        jobs = [self._job(given) for given in dict.fromkeys(options["jobs"])]  # all are looked at before any is touched
        done, refused = [], 0
        for job in jobs:
            try:
                outcome = act(job, by)
            except RequestRefused as refusal:
                refused += 1
                outcome = {"error": refusal.message}
            done.append({"job_id": job.pk, **outcome})
            if not options["json"]:
                self.stdout.write(f"{job.pk}  {' '.join(f'{name}: {value}' for name, value in outcome.items())}")
        if options["json"]:
            self.write_json(done)
        if refused:
            others = ", the others are done" if refused < len(jobs) else "; nothing was done"
            raise CommandError(f"{refused} of {len(jobs)} refused{others}.")

    def _operator(self, name: str | None) -> User | None:
        """Who is written down as having done it; without a name, the command line."""
        if not name:
            return None
        user = User.objects.filter(username=name, is_active=True).first()
        if user is None or not (user.is_staff and user.has_perm("jobs.change_job")):
            raise CommandError(
                f"--as: {name!r} is no active operator who may change jobs. In the admin: staff, and the permission jobs.change_job."
            )
        return user

    def _job(self, given: str) -> Job:
        try:
            job_id = UUID(given)
        except ValueError:
            raise CommandError(
                f"{given[:60]!r} is no job's id: it is a UUID. `manage.py jobs list` shows them."
            ) from None
        job = Job.objects.select_related("user", "leaderboard", "submission", "worker").filter(pk=job_id).first()
        if job is None:
            raise CommandError(f"There is no job {given}. `manage.py jobs list` shows the latest.")
        return job


def _status(job: Job) -> str:
    mark = " (trial)" if job.trial else " (withdrawn)" if job.withdrawn_at else ""
    return f"{job.status}{mark}"


def _row(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.pk, "status": job.status, "user": job.user.username, "leaderboard": job.leaderboard.slug,
        "submission_name": job.submission.name,
        "resource_class": job.resource_class, "score": job.score, "error_code": job.error_code, "attempt": job.attempt,
        "created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at,
        "rerun_of": job.rerun_of_id, "started_by_operator": job.is_by_operator, "operator_reason": job.operator_reason,
        "trial": job.trial, "withdrawn_at": job.withdrawn_at,
    }  # fmt: skip


def _details(job: Job) -> dict[str, Any]:
    why = waiting(job)
    ranking = ranking_state(job, None) if job.status == Status.COMPLETED else None
    return {
        "ranking": ranking.reason if ranking else None,
        "waiting": why.reason if why else None, "error_message": job.error_message, "exit_code": job.exit_code,
        "submission_id": job.submission_id, "entrypoint": job.submission.entrypoint, "config": job.config,
        "params": job.params, "metrics": job.metrics, "scorer": job.scorer, "score_version": job.score_version_number,
        "further_metrics": job.detail_metrics,
        "self_reported": job.self_reported, "scoring_seconds": job.scoring_seconds, "wall_seconds": job.wall_seconds, "cpu_seconds": job.cpu_seconds,
        "peak_memory_bytes": job.peak_memory_bytes, "isolation": job.isolation, "request_id": job.request_id,
        "cancel_requested_at": job.cancel_requested_at, "worker": job.worker.name if job.worker else None,
        "lease_until": job.lease_until, "losses": job.losses, "releases": job.releases,
        "reruns": list(job.reruns.newest_first().values_list("pk", flat=True)[:20]),
        "artifacts": [item["path"] for item in job.artifacts], "mlflow": mlflow_ui_link(job), "notes": job.notes_in_words,
        "attempts": [
            {"number": attempt.number, "worker": attempt.worker_name, "outcome": attempt.outcome,
             "detail": attempt.detail, "started_at": attempt.started_at, "ended_at": attempt.ended_at}
            for attempt in job.attempts.all()
        ],
    }  # fmt: skip


def _log(job: Job) -> str:
    parts: list[bytes] = []
    offset = 0
    while True:
        content, following = read_log(job, offset)
        if following == offset:
            return b"".join(parts).decode("utf-8", "replace")
        parts.append(content)
        offset = following
