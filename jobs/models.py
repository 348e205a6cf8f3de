"""Jobs: the record of every run. PostgreSQL is the truth; Redis only wakes workers (docs/architecture.md).

No code writes `status` but jobs/claiming.py and jobs/transitions.py; a trigger (migrations/0003) refuses what must not be:
a changed final status, a falling attempt.
"""

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.permissions import sees_all_jobs
from jobs.codes import ACTIVE, FINAL, PLATFORM_FAULTS, ErrorCode, Status
from jobs.counts import Dependency, EndingTally, HourlyEnds
from jobs.execution.limit_table import HeldLimit, held_limits
from jobs.run_records import JobAttempt, JobLogChunk, JobProgress, TrackingOutbox, Withdrawal
from jobs.wording import in_words, lines_in_words
from jobs.worker_record import RunnerEnvironment, Worker
from leaderboards.models import Leaderboard, ScoreVersion
from submissions.models import Submission

__all__ = [
    "ACTIVE",
    "FINAL",
    "PLATFORM_FAULTS",
    "Dependency",
    "EndingTally",
    "ErrorCode",
    "HourlyEnds",
    "Job",
    "JobAttempt",
    "JobLogChunk",
    "JobProgress",
    "JobQuerySet",
    "RunnerEnvironment",
    "Status",
    "TrackingOutbox",
    "Withdrawal",
    "Worker",
]


class JobQuerySet(models.QuerySet["Job"]):
    def visible_to(self, user: AbstractUser | AnonymousUser) -> "JobQuerySet":
        """A person's own; operators who were given that see all."""
        if sees_all_jobs(user):
            return self.all()
        return self.filter(user=user) if user.is_authenticated else self.none()

    def shown_on_boards(self, user: AbstractUser | AnonymousUser) -> "JobQuerySet":
        """The jobs behind the entries of leaderboards that the user may see: only what a board shows of them is for others
        to see, so nothing else is loaded."""
        boards = Leaderboard.objects.visible_to(user)
        return self.filter(entry__leaderboard__in=boards).only(
            "id", "user", "leaderboard", "status", "metrics", "score", "wall_seconds", "peak_memory_bytes", "created_at",
            "started_at", "finished_at", "trial", "withdrawn_at", "score_version", "scorer", "ground_truth",
        )  # fmt: skip

    def active(self) -> "JobQuerySet":
        """Pending or running."""
        return self.filter(status__in=ACTIVE)

    def newest_first(self) -> "JobQuerySet":
        return self.order_by("-created_at", "-id")


class Job(models.Model):
    id = models.UUIDField("ID", primary_key=True, default=uuid.uuid4, editable=False)
    submission = models.ForeignKey(
        Submission, verbose_name=_("submission"), on_delete=models.PROTECT, related_name="jobs"
    )
    # Without indexes of their own: job_by_user and job_by_board serve.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.PROTECT, related_name="jobs", db_index=False
    )
    leaderboard = models.ForeignKey(
        Leaderboard, verbose_name=_("leaderboard"), on_delete=models.PROTECT, related_name="jobs", db_index=False
    )
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.PENDING)
    config = models.JSONField(_("config"), default=dict, help_text=_("Laid over the submission's config file."))
    resource_class = models.CharField(_("resource class"), max_length=32, default="small")
    idempotency_key = models.CharField(_("idempotency key"), max_length=200, null=True, blank=True)
    request_digest = models.CharField(
        _("request digest"), max_length=64, blank=True, help_text=_("SHA-256 of the request behind the key.")
    )
    request_id = models.CharField(
        _("request ID"),
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text=_("The request that made it: its log lines, the worker's and the MLflow run carry it."),
    )
    # Empty in a new job, like `worker` and `cancel_requested_by`: their indexes (below) have only what is not.
    rerun_of = models.ForeignKey(
        "self",
        verbose_name=_("rerun of"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="reruns",
        db_index=False,
    )
    priority = models.PositiveSmallIntegerField(
        _("priority"), default=0, help_text=_("Smaller runs first; re-runs stand at 1.")
    )

    trial = models.BooleanField(
        _("trial"), default=False, db_default=False, help_text=_("It runs and is shown to its owner, and never ranks.")
    )
    is_by_operator = models.BooleanField(
        _("started by an operator"), default=False, db_default=False, help_text=_("Only operators cancel it.")
    )
    # Set to False by the transition that ends it (jobs/transitions.py); the one record of what counts against the hour.
    costs_quota = models.BooleanField(
        _("costs quota"), default=True, db_default=True, help_text=_("It counts against its owner's hour.")
    )
    operator_reason = models.TextField(_("the operator's reason"), blank=True, default="", db_default="")

    # The lease: who runs it, and until when nobody else may.
    attempt = models.PositiveIntegerField(
        _("attempt"), default=0, help_text=_("The fencing token: rises at each claim, never falls.")
    )
    worker = models.ForeignKey(
        Worker,
        verbose_name=_("worker"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="jobs",
        db_index=False,
    )
    lease_until = models.DateTimeField(_("lease until"), null=True, blank=True)
    heartbeat_at = models.DateTimeField(_("heartbeat at"), null=True, blank=True)
    deadline_at = models.DateTimeField(_("deadline at"), null=True, blank=True)
    available_at = models.DateTimeField(_("available at"), db_default=Now())
    pushed_at = models.DateTimeField(_("pushed at"), null=True, blank=True)
    losses = models.PositiveSmallIntegerField(_("losses"), default=0)
    releases = models.PositiveSmallIntegerField(_("releases"), default=0)
    cancel_requested_at = models.DateTimeField(_("cancel requested at"), null=True, blank=True)
    cancel_requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("cancel requested by"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )

    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=Now())
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    # How it ended.
    exit_code = models.IntegerField(_("exit code"), null=True, blank=True)
    error_code = models.CharField(_("error code"), max_length=32, choices=ErrorCode, blank=True)
    error_message = models.TextField(_("error message"), blank=True)
    error_told = models.JSONField(
        _("parts of the error message"),
        default=dict,
        db_default={},
        help_text=_("What the message is made of, to say it in the reader's language."),
    )
    params = models.JSONField(_("params"), default=dict)
    metrics = models.JSONField(_("metrics"), default=dict)
    score = models.FloatField(_("score"), null=True, blank=True)
    # On a leaderboard with a scorer `metrics` are the scorer's, and these the submission's own, which never rank.
    self_reported = models.JSONField(_("self-reported metrics"), db_default={}, default=dict)
    scorer = models.CharField(
        _("scorer"),
        max_length=120,
        blank=True,
        db_default="",
        help_text=_("Whose numbers its metrics are; empty: the run's own."),
    )
    ground_truth = models.CharField(_("ground truth"), max_length=200, blank=True, db_default="")
    score_version = models.ForeignKey(
        ScoreVersion,
        verbose_name=_("score version"),
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="jobs",
        db_index=False,
        help_text=_("What produced its metrics; empty where the run reports its own."),
    )
    detail_metrics = models.JSONField(
        _("further metrics"),
        default=dict,
        db_default={},
        help_text=_("What the scorer measured beyond the leaderboard's metrics, such as a category's own values."),
    )
    notes = models.JSONField(
        _("notes"),
        default=list,
        db_default=[],
        help_text=_("What its owner should know of how the result was taken over: sentences, in parts."),
    )
    withdrawn_at = models.DateTimeField(
        _("withdrawn at"), null=True, blank=True, help_text=_("By its owner: it does not rank until they undo it.")
    )
    scoring_started_at = models.DateTimeField(_("scoring started at"), null=True, blank=True)
    scoring_seconds = models.FloatField(_("scoring seconds"), null=True, blank=True)
    scorer_log_name = models.CharField(
        _("name of the scorer's log"),
        max_length=200,
        blank=True,
        db_default="",
        help_text=_("The scorer's log, for operators alone."),
    )
    wall_seconds = models.FloatField(_("wall seconds"), null=True, blank=True)
    cpu_seconds = models.FloatField(_("CPU seconds"), null=True, blank=True)
    peak_memory_bytes = models.BigIntegerField(_("peak memory in bytes"), null=True, blank=True)
    isolation = models.CharField(_("isolation"), max_length=32, blank=True)
    limits_applied = models.JSONField(_("limits applied"), default=dict)
    log_name = models.CharField(
        _("name of the log"), max_length=200, blank=True, help_text=_("The stored log; while it runs, its chunks.")
    )
    log_bytes = models.PositiveBigIntegerField(_("log bytes"), default=0)
    artifacts = models.JSONField(_("artifacts"), default=list)
    run_id = models.CharField(_("MLflow run"), max_length=64, blank=True)
    experiment_id = models.CharField(_("MLflow experiment"), max_length=64, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="job_idempotency_key",
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="job_status_known"),
            models.CheckConstraint(condition=Q(error_code__in=["", *ErrorCode.values]), name="job_error_code_known"),
            models.CheckConstraint(
                condition=Q(status="running", lease_until__isnull=False) | (~Q(status="running") & Q(lease_until=None)),
                name="job_running_has_lease",
            ),
            models.CheckConstraint(
                condition=Q(status__in=FINAL, finished_at__isnull=False) | (~Q(status__in=FINAL) & Q(finished_at=None)),
                name="job_final_has_end",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["failed", "cancelled"]) | Q(error_code=""),
                name="job_error_only_if_not_completed",
            ),
            models.CheckConstraint(condition=~Q(status="failed") | ~Q(error_code=""), name="job_failed_has_error"),
            models.CheckConstraint(condition=Q(status="completed") | Q(score=None), name="job_score_only_if_completed"),
            models.CheckConstraint(
                condition=Q(withdrawn_at=None) | Q(status="completed", trial=False),
                name="job_withdrawn_could_rank",
            ),
            # PostgreSQL sorts NaN above infinity, so this refuses NaN too.
            models.CheckConstraint(
                condition=Q(score=None) | (Q(score__gt=float("-inf")) & Q(score__lt=float("inf"))),
                name="job_score_finite",
            ),
        ]
        indexes = [
            # A person's jobs, newest first; how many they made in the last hour.
            models.Index("user", F("created_at").desc(), F("id").desc(), name="job_by_user"),
            # The admin's list, newest first; retention takes the oldest.
            models.Index(F("created_at").desc(), F("id").desc(), name="job_newest"),
            # The claim: the next pending job of each person.
            models.Index("user", "priority", "created_at", "id", condition=Q(status="pending"), name="job_pending"),
            # The reconciler: leases that are over.
            models.Index("lease_until", condition=Q(status="running"), name="job_leases"),
            # The claim: who was served last.
            models.Index("user", F("started_at").desc(), condition=Q(started_at__isnull=False), name="job_last_served"),
            # MLflow behind our login: whose run it is.
            models.Index("run_id", condition=~Q(run_id=""), name="job_mlflow_run"),
            # Recomputing a person's best job on a leaderboard, and how many runs of theirs the board counts.
            models.Index(
                "leaderboard",
                "user",
                F("created_at").desc(),
                condition=Q(status="completed", trial=False),
                name="job_completed",
            ),
            # The count of runs that a person has withdrawn from a leaderboard.
            models.Index("leaderboard", "user", condition=Q(withdrawn_at__isnull=False), name="job_withdrawn"),
            # The admin's lists of one status, one error or one leaderboard, newest first.
            models.Index("status", F("created_at").desc(), F("id").desc(), name="job_by_status"),
            models.Index(
                "error_code", F("created_at").desc(), F("id").desc(), condition=~Q(error_code=""), name="job_by_error"
            ),
            models.Index("leaderboard", F("created_at").desc(), F("id").desc(), name="job_by_board"),
            # The status page: how many wait of a class, and since when; which were not called for.
            models.Index("resource_class", "created_at", condition=Q(status="pending"), name="job_waiting"),
            models.Index("pushed_at", condition=Q(status="pending"), name="job_uncalled"),
            # What a foreign key looks for when a job, a worker or a person is deleted.
            models.Index("rerun_of", condition=Q(rerun_of__isnull=False), name="job_reruns"),
            models.Index("worker", condition=Q(worker__isnull=False), name="job_by_worker"),
            models.Index(
                "cancel_requested_by", condition=Q(cancel_requested_by__isnull=False), name="job_by_canceller"
            ),
            # The rows that refer to a score version, before it is deleted.
            models.Index("score_version", condition=Q(score_version__isnull=False), name="job_by_score_version"),
            # The ends of an hour, counted by status.
            models.Index("finished_at", "status", condition=Q(finished_at__isnull=False), name="job_ends"),
            # Recent run times of a class, for the expected start.
            models.Index(
                "resource_class",
                F("finished_at").desc(),
                condition=Q(finished_at__isnull=False),
                name="job_recent_ends",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    def get_absolute_url(self) -> str:
        return reverse("job", args=[self.id])

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def is_platform_fault(self) -> bool:
        return self.error_code in PLATFORM_FAULTS

    @property
    def has_writable_code(self) -> bool:
        """Whether its run had, or will have, a copy of the code folder to write to.

        The submission or the leaderboard asks for one; an operator's rerun has what its original had.
        """
        if self.is_final:
            return "code" in self.limits_applied
        is_asked = self.submission.has_writable_code or self.leaderboard.has_writable_code
        return is_asked or (self.rerun_of is not None and self.rerun_of.has_writable_code)

    @property
    def held_limits(self) -> list[HeldLimit]:
        """What held each limit of its run; empty until it has ended."""
        return held_limits(self.limits_applied)

    @property
    def score_version_number(self) -> int | None:
        """The running number of its score version: all that participants learn of it."""
        return self.score_version.number if self.score_version else None

    @property
    def notes_in_words(self) -> list[str]:
        """The notes in the language of who reads them."""
        return [in_words(note.get("text", ""), note) for note in self.notes]

    @property
    def error_lines(self) -> list[str]:
        """The faults that the error message names, each by itself."""
        return lines_in_words(self.error_message, self.error_told)

    @property
    def error_in_words(self) -> str:
        """The error message in the language of who reads it."""
        return in_words(self.error_message, self.error_told)
