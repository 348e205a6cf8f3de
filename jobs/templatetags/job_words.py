"""How jobs are shown: a status with its colour, picture and word; an error with whose fault it is and what to do."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from jobs.models import ErrorCode, Job, Status
from leaderboards.templatetags.shown import icon

register = template.Library()

YOURS = _("This is for your code to fix.")
OURS = _("This is the platform’s fault, and it cost you no quota.")
_WHAT_TO_DO = {
    ErrorCode.BAD_ARCHIVE: _("Pack the files again and submit them anew."),
    ErrorCode.MISSING_METRICS: _(
        "Write metrics.json into the folder that is given as --output, also when little was measured."
    ),
    ErrorCode.BAD_METRICS: _("Look at the message: it names the field. Metrics are finite numbers under “metrics”."),
    ErrorCode.EXIT_NONZERO: _("The last lines of the log usually say why. Try the same files on your own machine."),
    ErrorCode.OUT_OF_MEMORY: _("Use smaller batches or images, or a larger resource class."),
    ErrorCode.TIMEOUT: _("Do less work in a run, or use a class that allows more time."),
    ErrorCode.LOG_LIMIT: _("Print less: one line an epoch rather than one a batch."),
    ErrorCode.DISK_LIMIT: _("Leave fewer or smaller files in the output folder and in /tmp."),
    ErrorCode.CANCELLED: _("Run it again whenever you like."),
    ErrorCode.WORKER_LOST: _("Run it again. If it happens once more, tell the operators."),
    ErrorCode.STORAGE_UNAVAILABLE: _("Run it again in a few minutes."),
    ErrorCode.INTERNAL: _("Run it again. If it happens once more, tell the operators this job’s id."),
}


@register.simple_tag
def status_chip(status: str) -> SafeString:
    return format_html('<span class="chip {}">{}{}</span>', status, icon(status), Status(status).label)


@register.filter
def whose_fault(job: Job) -> str:
    if job.error_code == ErrorCode.CANCELLED:
        return ""
    return str(OURS if job.is_platform_fault else YOURS)


@register.filter
def what_to_do(job: Job) -> str:
    return str(_WHAT_TO_DO[ErrorCode(job.error_code)])


@register.filter
def run_seconds(job: Job) -> float | None:
    """What the run took: as measured, or by the clock."""
    if job.wall_seconds is not None:
        return job.wall_seconds
    if job.started_at and job.finished_at:
        return max(0.0, (job.finished_at - job.started_at).total_seconds())
    return None


@register.filter
def short(job_id: object) -> str:
    """The first part of an id, enough to tell two jobs apart."""
    return str(job_id)[:8]
