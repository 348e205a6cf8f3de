"""What operators tell workers, and what a ban does to a person's jobs."""

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.refusals import Conflict
from accounts.services import shut_out
from jobs import transitions
from jobs.models import Job, Worker


def _live(worker: Worker) -> QuerySet[Worker]:
    return Worker.objects.filter(pk=worker.pk, stopped_at=None)


def drain(worker: Worker) -> None:
    """It finishes its job in hand and ends; it hears of it with its next heartbeat."""
    if not _live(worker).update(drain_requested_at=Now()):
        raise Conflict("already_stopped", _("The worker has stopped."))


def stop(worker: Worker) -> None:
    """It gives its job in hand back and ends."""
    if not _live(worker).update(drain_requested_at=Now(), stop_requested_at=Now()):
        raise Conflict("already_stopped", _("The worker has stopped."))


def disable(worker: Worker) -> None:
    """It stays and claims nothing: the claim's own statement looks at this."""
    if not _live(worker).filter(disabled_at=None).update(disabled_at=Now()):
        raise Conflict("already_disabled", _("The worker has stopped or is disabled already."))


def enable(worker: Worker) -> None:
    if not Worker.objects.filter(pk=worker.pk, disabled_at__isnull=False).update(disabled_at=None):
        raise Conflict("not_disabled", _("The worker is not disabled."))


@transaction.atomic
def ban(user: User, *, by: User, reason: str) -> int:
    """Shut the user out, cancel what waits and have the running stopped; how many jobs that were.

    Their row is locked first, as enqueue_job does: a job that is enqueued meanwhile is seen here, or refused there.
    """
    User.objects.select_for_update().only("pk").get(pk=user.pk)
    shut_out(user)
    cancelled = 0
    for job_id in list(Job.objects.filter(user=user).active().values_list("pk", flat=True)[:10_000]):
        cancelled += transitions.cancel(job_id, by=by) is not None
    return cancelled
