"""Workers and the Python environments that they run submissions in, as workers report them."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class RunnerEnvironment(models.Model):
    """A Python with its packages, stored once however many workers and runs have it."""

    digest = models.CharField(_("digest"), max_length=64, unique=True)
    python = models.CharField(_("Python"), max_length=60)
    packages = models.JSONField(_("packages"), default=list, help_text=_("[[name, version], ...] by name."))
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    class Meta:
        verbose_name = _("Python environment")
        verbose_name_plural = _("Python environments")

    def __str__(self) -> str:
        return f"{self.python} {self.digest[:12]}"


class WorkerQuerySet(models.QuerySet["Worker"]):
    def live(self) -> "WorkerQuerySet":
        """Workers that take jobs and were heard of within a lease. Disabled ones take none."""
        heard = Now() - timedelta(seconds=settings.LEASE_SECONDS)
        states = [Worker.State.STARTING, Worker.State.IDLE, Worker.State.RUNNING]
        return self.filter(heartbeat_at__gt=heard, state__in=states, disabled_at=None)


class Worker(models.Model):
    """A worker process, as it reports itself."""

    class State(models.TextChoices):
        STARTING = "starting", _("starting")
        IDLE = "idle", _("idle")
        RUNNING = "running", _("running")
        DRAINING = "draining", _("draining")
        REFUSING = "refusing", _("refusing: its sandbox is open")
        STOPPED = "stopped", _("stopped")

    name = models.CharField(_("name"), max_length=100, unique=True)
    hostname = models.CharField(_("hostname"), max_length=200)
    pid = models.PositiveIntegerField(_("process ID"))
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.STARTING)
    resource_classes = models.JSONField(_("resource classes"), default=list)
    executor = models.CharField(_("executor"), max_length=32, blank=True)
    sandbox_report = models.JSONField(
        _("sandbox report"), default=list, help_text=_("What its probe of its own sandbox found at start.")
    )
    limits = models.JSONField(
        _("limits"),
        db_default={},
        default=dict,
        help_text=_("What holds each limit of its runs, as its probe found at start."),
    )
    gpus = models.JSONField(_("GPUs"), default=list)
    started_at = models.DateTimeField(_("started at"), db_default=Now())
    heartbeat_at = models.DateTimeField(_("heartbeat at"), db_default=Now())
    stopped_at = models.DateTimeField(_("stopped at"), null=True, blank=True)
    drain_requested_at = models.DateTimeField(_("drain requested at"), null=True, blank=True)
    stop_requested_at = models.DateTimeField(
        _("stop requested at"), null=True, blank=True, help_text=_("Its job in hand is given back.")
    )
    disabled_at = models.DateTimeField(
        _("disabled at"), null=True, blank=True, help_text=_("It stays, and takes no job until enabled.")
    )
    machine = models.JSONField(
        _("machine"), db_default={}, default=dict, help_text=_("Processors, memory, disk and GPUs, as it reports them.")
    )
    inventory = models.JSONField(
        _("inventory"),
        db_default={},
        default=dict,
        help_text=_("The data sets, labels, scorers and images that it has, of those that leaderboards need."),
    )

    objects = WorkerQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ["-heartbeat_at"]
        indexes = [models.Index(F("heartbeat_at").desc(), name="worker_latest")]  # the operators' list of who is alive

    def __str__(self) -> str:
        return self.name
