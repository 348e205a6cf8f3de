"""Whether work gets done: workers, the reconciler, what is stuck, MLflow's backlog."""

from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from jobs.execution.limit_table import lacking
from jobs.models import TrackingOutbox
from jobs.platform_faults import HOURS, platform_faults
from jobs.reconciler import has_leader
from jobs.stuck import stuck_jobs
from jobs.unrunnable import unrunnable_jobs
from jobs.waiting import live_workers
from leaderboard_site.doctor.findings import Found

START = "manage.py worker, on a machine that can run submissions"


def workers(found: Found) -> None:
    told: dict[str, str] = {}
    for name in settings.RESOURCE_CLASSES:
        alive = live_workers(name)
        told |= {
            worker.name: ", ".join(f"{one.label}: {one.words}" for one in lacking(worker.limits)) for worker in alive
        }
        if not alive:
            found.wrong(f"no worker takes jobs of the class {name}", START)
        else:
            hosts = {worker.hostname for worker in alive}
            found.ok(f"{name}: {len(alive)} on {len(hosts)} {'machine' if len(hosts) == 1 else 'machines'}")
    for name, limits in told.items():
        if limits:
            found.ok(f"{name} has no control group ({limits})")
    for one in unrunnable_jobs():
        lacks = "; ".join(f"{host.hostname} lacks {', '.join(host.lacks)}" for host in one.hosts)
        found.wrong(
            f"{one.jobs} jobs of {one.board.slug} wait, and no worker of the class {one.resource_class} can run them: {lacks}",
            "copy what is missing to one of these machines; its workers notice by themselves",
        )


def faults(found: Found) -> None:
    """Name leaderboards whose jobs failed by the platform's fault again and again."""
    repeated = [one for one in platform_faults() if one.is_repeated]
    for one in repeated:
        found.wrong(
            f"{one.board.slug}: {one.jobs} jobs ended as {one.code} within {HOURS} hours, the last is {one.last_job}: "
            f"{one.cause or 'no cause was kept'}",
            f"docs/errors.md says what {one.code} means; then run the jobs again",
        )
    if not repeated:
        found.ok(f"no leaderboard's jobs failed repeatedly by the platform's fault within {HOURS} hours")


def reconciler(found: Found) -> None:
    if has_leader():
        found.ok("one leads")
    else:
        found.wrong("none leads: lost jobs stay lost, and nothing reaches MLflow", "manage.py reconcile")


def stuck(found: Found) -> None:
    jobs = stuck_jobs()
    for one in jobs[:10]:
        found.wrong(f"{one.job.pk} {one.kind.label}", f"the admin's status page: {one.kind.remedy}")
    if not jobs:
        found.ok("no job is stuck")


def outbox(found: Found) -> None:
    for row in TrackingOutbox.objects.refused().order_by("created_at")[:10]:
        found.wrong(f"MLflow does not take job {row.job_id}: {row.last_error}", "the admin's status page: Try now")
    due = TrackingOutbox.objects.waiting()
    oldest = due.aggregate(oldest=Min("created_at"))["oldest"]
    if oldest is None:
        found.ok("MLflow has every completed job")
        return
    waited = (timezone.now() - oldest).total_seconds()
    count = due.count()
    if waited > settings.TRACKING_BACKOFF_SECONDS * 2:
        error = due.order_by("created_at").values_list("last_error", flat=True).first()
        found.wrong(f"{count} completed jobs are not in MLflow, the first for {waited / 60:.0f} minutes: {error or 'never tried'}",
                    "look at the checks mlflow and reconciler; it catches up by itself")  # fmt: skip
    else:
        found.ok(f"{count} completed jobs on their way to MLflow")
