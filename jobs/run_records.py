"""What is kept beside a job's row: its attempts, the pieces of its log, its progress, and what MLflow has yet to take."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import override

from jobs.codes import ErrorCode
from jobs.wording import in_words
from jobs.worker_record import RunnerEnvironment


class JobAttempt(models.Model):
    """One try at a job: by whom, when, and how it ended."""

    class Outcome(models.TextChoices):
        RUNNING = "running", _("running")
        COMPLETED = "completed", _("completed")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")
        LOST = "lost", _("worker lost")
        RELEASED = "released", _("given back")

    job = models.ForeignKey("jobs.Job", verbose_name=_("job"), on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField(_("number"))
    worker_name = models.CharField(_("worker name"), max_length=100)
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome, default=Outcome.RUNNING)
    detail = models.TextField(_("detail"), blank=True)
    detail_told = models.JSONField(_("parts of the detail"), default=dict, db_default={})
    # Never looked up by environment, and environments are never deleted: no index.
    environment = models.ForeignKey(
        RunnerEnvironment,
        verbose_name=_("Python environment"),
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="attempts",
        db_index=False,
        help_text=_("Empty: not recorded."),
    )
    provided = models.JSONField(
        _("resources"), default=dict, db_default={}, help_text=_("The limits of its class and the GPUs, when it began.")
    )
    started_at = models.DateTimeField(_("started at"), db_default=Now())
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="attempt_once"),
            models.CheckConstraint(
                condition=Q(outcome="running", ended_at=None) | (~Q(outcome="running") & Q(ended_at__isnull=False)),
                name="attempt_ended_has_end",
            ),
        ]
        indexes = [
            # The admin's lists of one outcome or one worker, newest first.
            models.Index("outcome", F("id").desc(), name="attempt_by_outcome"),
            models.Index("worker_name", F("id").desc(), name="attempt_by_worker"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} #{self.number}"

    @property
    def detail_in_words(self) -> str:
        """How it ended in the language of who reads it; a failed one's error code stays in front."""
        code, colon, message = self.detail.partition(": ")
        if self.outcome == self.Outcome.FAILED and colon and code in ErrorCode.values:
            return f"{code}: {in_words(message, self.detail_told)}"
        return in_words(self.detail, self.detail_told)

    @property
    def cause(self) -> str:
        """Return what operators are told beyond the participant's sentence: why the platform failed the job or gave it back."""
        with override("en"):
            told = in_words("", self.detail_told)
        if self.outcome not in (self.Outcome.RELEASED, self.Outcome.FAILED) or not told:
            return ""
        detail = self.detail.partition(": ")[2] if self.outcome == self.Outcome.FAILED else self.detail
        return "" if detail == told else detail


class JobLogChunk(models.Model):
    """A piece of a running attempt's log, cleaned UTF-8; the finished log is a stored file and its chunks go."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="log_chunks")
    attempt = models.PositiveIntegerField()
    offset = models.PositiveBigIntegerField()
    content = models.BinaryField()

    class Meta:
        verbose_name = _("piece of a log")
        verbose_name_plural = _("pieces of logs")
        constraints = [models.UniqueConstraint(fields=["job", "attempt", "offset"], name="log_chunk_once")]


class JobProgress(models.Model):
    """What a run has said about itself in its output: how far it is, and its curves (docs/submissions.md).

    One row a job, of the latest attempt that said anything; kept after the end.
    """

    job = models.OneToOneField("jobs.Job", on_delete=models.CASCADE, primary_key=True, related_name="progress")
    attempt = models.PositiveIntegerField()
    fraction = models.FloatField(null=True, blank=True)
    fraction_at = models.DateTimeField(null=True, blank=True, help_text=_("When the fraction last changed."))
    message = models.CharField(max_length=200, blank=True)
    curves = models.JSONField(default=list, help_text=_("[{name, points: [[step, value, seconds], ...]}, ...]"))
    ignored = models.PositiveIntegerField(default=0, help_text=_("Reported values that broke a rule."))
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("progress of a run")
        verbose_name_plural = _("progress of runs")
        constraints = [
            models.CheckConstraint(
                condition=Q(fraction=None) | (Q(fraction__gte=0) & Q(fraction__lte=1)), name="progress_is_a_fraction"
            ),
        ]

    def __str__(self) -> str:
        return str(self.job_id)


class Withdrawal(models.Model):
    """A period in which a job's owner had withdrawn it from its board; `Job.withdrawn_at` is that of the open one."""

    job = models.ForeignKey("jobs.Job", verbose_name=_("job"), on_delete=models.CASCADE, related_name="withdrawals")
    withdrawn_at = models.DateTimeField(_("withdrawn at"), db_default=Now())
    restored_at = models.DateTimeField(_("counted again at"), null=True, blank=True)

    class Meta:
        verbose_name = _("withdrawal")
        verbose_name_plural = _("withdrawals")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["job"], condition=Q(restored_at=None), name="withdrawal_one_open_a_job"),
        ]

    def __str__(self) -> str:
        return str(self.job_id)


class TrackingOutboxQuerySet(models.QuerySet["TrackingOutbox"]):
    def waiting(self) -> "TrackingOutboxQuerySet":
        """Rows that go to MLflow as soon as it answers."""
        return self.filter(refusals__lt=max(1, settings.TRACKING_TRIES))

    def refused(self) -> "TrackingOutboxQuerySet":
        """Rows that failed too often at something of their own; they are tried daily and shown to operators."""
        return self.filter(refusals__gte=max(1, settings.TRACKING_TRIES), refusals__gt=0)


class TrackingOutbox(models.Model):
    """A completed job that MLflow does not have yet; the row goes when it does."""

    job = models.OneToOneField(
        "jobs.Job", verbose_name=_("job"), on_delete=models.CASCADE, primary_key=True, related_name="tracking"
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    next_try_at = models.DateTimeField(_("next try at"), db_default=Now())
    tries = models.PositiveIntegerField(_("tries"), default=0)
    refusals = models.PositiveIntegerField(
        _("failures of its own"),
        default=0,
        db_default=0,
        help_text=_("Tries that failed at something of this job alone."),
    )
    last_error = models.TextField(_("last error"), blank=True)
    # Set before MLflow is asked to create the run: an answer that got lost leaves it set, and the next try then waits
    # until a late creation would be visible to the search.
    create_sent_at = models.DateTimeField(_("create sent at"), null=True, blank=True)

    # The run is there, and only its name has changed.
    only_name = models.BooleanField(_("only the name"), default=False, db_default=False)

    objects = TrackingOutboxQuerySet.as_manager()

    class Meta:
        verbose_name = _("run not in MLflow yet")
        verbose_name_plural = _("runs not in MLflow yet")
        indexes = [
            models.Index(F("next_try_at"), name="outbox_due"),  # the publisher: who is due
            models.Index("created_at", name="outbox_oldest"),  # the status page: how far MLflow is behind
            # The status page and /metrics: what MLflow does not take.
            models.Index(F("created_at"), condition=Q(refusals__gt=0), name="outbox_refused"),
        ]

    def __str__(self) -> str:
        return str(self.job_id)
