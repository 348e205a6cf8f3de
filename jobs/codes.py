"""What a job's status and the end of a failed one are called."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    PENDING = "pending", _("pending")
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


FINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
ACTIVE = (Status.PENDING, Status.RUNNING)


class ErrorCode(models.TextChoices):
    """Why a job did not complete. `PLATFORM_FAULTS` says whose fault it is; docs/errors.md what to do."""

    BAD_ARCHIVE = "bad_archive", _("The stored files could not be unpacked.")
    MISSING_METRICS = "missing_metrics", _("The run left no metrics.json in the output folder.")
    BAD_METRICS = "bad_metrics", _("metrics.json is not what it must be.")
    BAD_PREDICTIONS = "bad_predictions", _("The predictions are not what the leaderboard’s scorer needs.")
    EXIT_NONZERO = "exit_nonzero", _("The program ended with an error.")
    OUT_OF_MEMORY = "out_of_memory", _("The run used more memory than its class allows.")
    TIMEOUT = "timeout", _("The run took longer than its class allows.")
    LOG_LIMIT = "log_limit", _("The run wrote more log than its class allows.")
    DISK_LIMIT = "disk_limit", _("The run wrote more files than its class allows.")
    CANCELLED = "cancelled", _("Cancelled.")
    WORKER_LOST = "worker_lost", _("The machine that ran it was lost, three times.")
    STORAGE_UNAVAILABLE = "storage_unavailable", _("Stored files could not be reached.")
    IMAGE_UNUSABLE = "image_unusable", _("The leaderboard’s container image could not be used.")
    SCORING_UNAVAILABLE = "scoring_unavailable", _("The leaderboard’s scorer or its labels could not be reached.")
    SCORER_FAILED = "scorer_failed", _("The leaderboard’s scorer broke.")
    INTERNAL = "internal", _("The platform broke.")


PLATFORM_FAULTS = (
    ErrorCode.WORKER_LOST,
    ErrorCode.STORAGE_UNAVAILABLE,
    ErrorCode.IMAGE_UNUSABLE,
    ErrorCode.SCORING_UNAVAILABLE,
    ErrorCode.SCORER_FAILED,
    ErrorCode.INTERNAL,
)
