"""How jobs are shown: a status with its colour, picture and word; an error with whose fault it is and what to do."""

import math
import re

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.quota import Wait
from jobs.models import ErrorCode, Job, JobAttempt, Status
from jobs.queries import mlflow_ui_link, progress_of
from jobs.services import jobs_this_hour
from leaderboards.templatetags.shown import icon

register = template.Library()

_SPACES_ALONE = re.compile(r"(?<![^/])\s+(?![^/])")

YOURS = _("This is for your code to fix.")
OURS = _("This is the platform’s fault, and it cost you no quota.")
_WHAT_TO_DO = {
    ErrorCode.BAD_ARCHIVE: _("Pack the files again and submit them anew."),
    ErrorCode.MISSING_METRICS: _(
        "Write metrics.json into the folder that is given as --output, also when little was measured."
    ),
    ErrorCode.BAD_METRICS: _("Look at the message: it names the field. Metrics are finite numbers under “metrics”."),
    ErrorCode.BAD_PREDICTIONS: _("Look at the message, and at what the leaderboard wants to be left in predictions/."),
    ErrorCode.EXIT_NONZERO: _("The last lines of the log usually say why. Try the same files on your own machine."),
    ErrorCode.OUT_OF_MEMORY: _("Use smaller batches or images, or a larger resource class."),
    ErrorCode.TIMEOUT: _("Do less work in a run, or use a class that allows more time."),
    ErrorCode.LOG_LIMIT: _("Print less: one line an epoch rather than one a batch."),
    ErrorCode.DISK_LIMIT: _("Leave fewer or smaller files in the output folder and in /tmp."),
    ErrorCode.CANCELLED: _("Run it again whenever you like."),
    ErrorCode.WORKER_LOST: _("Run it again. If it happens once more, tell the operators."),
    ErrorCode.STORAGE_UNAVAILABLE: _("Run it again in a few minutes."),
    ErrorCode.IMAGE_UNUSABLE: _("Tell the operators, who set the leaderboard’s image. Run it again afterwards."),
    ErrorCode.SCORING_UNAVAILABLE: _("Tell the operators, who keep the labels. Run it again afterwards."),
    ErrorCode.SCORER_FAILED: _("Tell the operators this job’s id: they have the scorer’s log."),
    ErrorCode.INTERNAL: _("Run it again. If it happens once more, tell the operators this job’s id."),
}


@register.simple_tag
def status_chip(status: str) -> SafeString:
    return format_html('<span class="chip {}">{}{}</span>', status, icon(status), Status(status).label)


@register.simple_tag
def run_marks(job: Job) -> SafeString:
    """Mark a run in lists as deleted, a trial or withdrawn."""
    words = (
        [_("deleted")]
        if job.submission.deleted_at
        else [_("trial")]
        if job.trial
        else [_("withdrawn")]
        if job.withdrawn_at
        else []
    )
    return format_html_join(" ", '<span class="chip aside">{}</span>', [(word,) for word in words])


@register.simple_tag
def run_wait(user: User) -> Wait | None:
    """Return how long the person waits for their next run; None while one is left in this hour."""
    return jobs_this_hour(user).wait()


@register.simple_tag
def status_word(status: str) -> str:
    """The status in the reader's language."""
    return str(Status(status).label)


_OUTCOME_ICONS = {JobAttempt.Outcome.LOST: "failed", JobAttempt.Outcome.RELEASED: "again"}


@register.simple_tag
def outcome_chip(outcome: str) -> SafeString:
    """How an attempt ended, with colour, picture and word."""
    known = JobAttempt.Outcome(outcome)
    return format_html(
        '<span class="chip {}">{}{}</span>', outcome, icon(_OUTCOME_ICONS.get(known, outcome)), known.label
    )


@register.filter
def attempt_why(attempt: JobAttempt) -> str:
    """Why an attempt ended, in the reader's language where the platform knows the reason."""
    if attempt.outcome == JobAttempt.Outcome.LOST:
        return gettext("Its worker fell silent until its lease was over; the job went to another.")
    if attempt.outcome == JobAttempt.Outcome.CANCELLED:
        return gettext("Somebody asked to stop it.")
    if attempt.outcome == JobAttempt.Outcome.RELEASED:
        return gettext("The worker gave it back: %(reason)s") % {"reason": attempt.detail_in_words}
    code, colon, message = attempt.detail_in_words.partition(": ")
    if colon and code in ErrorCode.values:
        return f"{ErrorCode(code).label} {message}"
    return attempt.detail_in_words


@register.filter
def attempt_seconds(attempt: JobAttempt) -> float | None:
    if attempt.ended_at is None:
        return None
    return max(0.0, (attempt.ended_at - attempt.started_at).total_seconds())


@register.filter
def visible_path(path: str) -> str:
    """Show names of spaces alone as `␣`: a link needs something to be seen and clicked."""
    return _SPACES_ALONE.sub(lambda spaces: "␣" * len(spaces[0]), path)


@register.filter
def reported_fraction(job: Job) -> float | None:
    """How far the latest attempt says it is."""
    progress = progress_of(job)
    return progress.fraction if progress else None


@register.filter
def percent(fraction: float) -> str:
    """0.357 as 35%: not more than was done."""
    return f"{math.floor(fraction * 100 + 1e-9)}%"


@register.filter
def dots(value: float) -> str:
    """A number as HTML's attributes want it, in every language."""
    return repr(float(value))


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
def mlflow_link(job: Job) -> str:
    return mlflow_ui_link(job)


@register.filter
def short(job_id: object) -> str:
    """The first part of an id, enough to tell two jobs apart."""
    return str(job_id)[:8]
