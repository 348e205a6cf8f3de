"""Jobs for operators: everything visible, nothing of a job's record editable; actions call the same services as the API."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

import jobs.board_operations  # registers its actions
import jobs.operations  # noqa: F401 - the same
from accounts.admin_base import MachineMadeAdmin, as_uuid, people_named, person
from accounts.refusals import Unavailable
from core.sizes import human_bytes
from jobs.board_needs import boards_with_needs
from jobs.detail_metrics import category_table
from jobs.execution.limit_table import held_limits
from jobs.log_page import log_part
from jobs.models import ErrorCode, Job, JobAttempt, Status, TrackingOutbox, Worker
from jobs.queries import mlflow_ui_link, read_scorer_log
from jobs.unrunnable import lacks_in_words
from leaderboards.admin import LeaderboardFilter, job_id, score
from leaderboards.metric_defaults import metric_problems
from leaderboards.ranking_state import ranking_state
from submissions.admin import submissions_named

# Leaderboards that are looked at for what a worker lacks.
BOARDS_SHOWN = 500


def _scorer_log(job: Job) -> str | None:
    try:
        return read_scorer_log(job)
    except Unavailable as refusal:
        return refusal.message


def limits_shown(applied: dict[str, str]) -> str:
    """A list of the limits with what holds each; for operators, in their language."""
    rows = [(gettext(one.label), gettext(one.words), one.by) for one in held_limits(applied)]
    return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {} ({})</li>", rows)) if rows else "–"


@admin.register(Job)
class JobAdmin(MachineMadeAdmin):
    list_display = [
        "id",
        "status",
        "error_code",
        "submission_label",
        person,
        "leaderboard",
        "created_at",
        score,
        "resource_class",
        "trial",
        "attempt",
        "is_by_operator",
    ]
    list_filter = ["status", "error_code", LeaderboardFilter, "created_at"]
    list_select_related = ["user", "leaderboard", "submission"]
    search_fields = ["id"]
    search_help_text = _(
        "A job's or submission's id, an error code, the beginning of a submission's name, or that of a user's name or "
        "address."
    )
    ordering = ["-created_at", "-id"]
    change_form_template = "admin/console/job.html"

    def find(self, text, by):
        if (one := as_uuid(text)) is not None:
            return [Q(pk=one), Q(submission=one), Q(rerun_of=one)]
        if text in ErrorCode.values:
            return [Q(error_code=text)]
        return [Q(user__in=people_named(text, by)), Q(submission__in=submissions_named(text))]

    @admin.display(description=_("submission"))
    def submission_label(self, job: Job) -> str:
        return job.submission.label

    def get_queryset(self, request):
        # A page of rows must not carry each job's list of a thousand files.
        found = super().get_queryset(request)
        is_list = request.resolver_match is not None and request.resolver_match.url_name == "jobs_job_changelist"
        return (
            found.defer(
                *["config", "params", "metrics", "detail_metrics", "notes", "artifacts", "limits_applied"],
                *["error_message", "error_told", "submission__manifest", "submission__metadata"],
            )
            if is_list
            else found
        )

    @admin.display(description=_("links"))
    def links(self, job: Job) -> str:
        addresses: list[tuple[str, str | Promise]] = [
            (job.get_absolute_url(), _("its page")),
            (reverse("admin:submissions_submission_change", args=[job.submission_id]), _("its submission")),
            (reverse("admin:accounts_user_change", args=[job.user_id]), _("its person")),
        ]
        if mlflow := mlflow_ui_link(job):
            addresses.append((mlflow, "MLflow"))
        return format_html_join(" · ", '<a href="{}">{}</a>', addresses)

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj is not None:
            context["job"] = obj
            context["attempts"] = obj.attempts.order_by("number")[:100]
            context["fault_cause"] = next((one.cause for one in context["attempts"] if one.number == obj.attempt), "")
            context["part"] = log_part(obj)
            context["scorer_log"] = _scorer_log(obj)
            context["categories"] = category_table(obj, obj.detail_metrics.get("categories"))
            if obj.error_code == ErrorCode.SCORER_FAILED:
                board = obj.leaderboard
                context["metric_problems"] = metric_problems(board.scorer, board.metrics.all())
            context["disqualification"] = getattr(obj, "disqualification", None)
            context["withdrawals"] = obj.withdrawals.all()
            context["ranking"] = ranking_state(obj, request.user) if obj.status == Status.COMPLETED else None
            context["reruns"] = obj.reruns.order_by("created_at")[:20]
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=_("what held its limits"))
    def held(self, job: Job) -> str:
        return limits_shown(job.limits_applied)

    @admin.display(description=_("error message"))
    def error(self, job: Job) -> str:
        return job.error_in_words

    @admin.display(description=_("peak memory"))
    def peak_memory(self, job: Job) -> str:
        return "–" if job.peak_memory_bytes is None else human_bytes(job.peak_memory_bytes)

    @admin.display(description=_("size of the log"))
    def log_size(self, job: Job) -> str:
        return human_bytes(job.log_bytes)

    def get_fields(self, request: HttpRequest, obj: Job | None = None) -> Any:
        # The further metrics have a table of their own.
        names = [str(field.name) for field in Job._meta.fields if field.name != "detail_metrics"]
        shown = {
            "error_message": "error",
            "limits_applied": "held",
            "peak_memory_bytes": "peak_memory",
            "log_bytes": "log_size",
        }
        return ["links", *(shown.get(name, name) for name in names)]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.get_fields(request)


@admin.register(JobAttempt)
class JobAttemptAdmin(MachineMadeAdmin):
    list_display = [job_id, "number", "worker_name", "outcome", "started_at", "ended_at"]
    list_filter = ["outcome"]
    search_fields = ["job"]
    search_help_text = _("A job's id or a worker's name.")
    ordering = ["-id"]

    def find(self, text, by):
        job = as_uuid(text)
        return [Q(job=job)] if job else [Q(worker_name=text)]

    @admin.display(description=_("detail"))
    def how_it_ended(self, attempt: JobAttempt) -> str:
        return attempt.detail_in_words

    def get_fields(self, request, obj=None):
        names = [field.name for field in JobAttempt._meta.fields]
        return ["how_it_ended" if name == "detail" else name for name in names]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)


def _had(found: list[str] | dict[str, str | list[int]]) -> str:
    """Names; with the beginning of a digest, which is enough to compare by eye, or with the versions that are there."""
    if isinstance(found, dict):
        versions = {name: one[:12] if isinstance(one, str) else ", ".join(map(str, one)) for name, one in found.items()}
        found = [f"{name} ({version})" for name, version in versions.items()]
    return ", ".join(found) or "–"


@admin.register(Worker)
class WorkerAdmin(MachineMadeAdmin):
    list_display = [
        "name",
        "state",
        "hostname",
        "executor",
        "holds",
        "heartbeat_at",
        "disabled_at",
        "drain_requested_at",
    ]
    list_filter = ["state"]
    search_fields = ["name"]
    search_help_text = _("A worker's name, or the beginning of it.")
    ordering = ["-heartbeat_at"]

    def find(self, text, by):
        return [Q(name__startswith=text)]

    @admin.display(description=_("break-outs contained"))
    def holds(self, worker: Worker) -> str:
        found = worker.sandbox_report
        return f"{sum(bool(one.get('contained')) for one in found)} / {len(found)}"

    @admin.display(description=_("what its probe of its sandbox found"))
    def report(self, worker: Worker) -> str:
        return format_html(
            "<ul>{}</ul>",
            format_html_join(
                "",
                "<li>{} <strong>{}</strong>: {}</li>",
                (
                    ("✓" if one.get("contained") else "✗", gettext(str(one.get("what"))), one.get("how"))
                    for one in worker.sandbox_report
                ),
            ),
        )

    @admin.display(description=_("what holds its limits"))
    def held(self, worker: Worker) -> str:
        return limits_shown(worker.limits)

    @admin.display(description=_("has, of what leaderboards need"))
    def has(self, worker: Worker) -> str:
        names = {
            "datasets": _("data sets"),
            "images": _("images"),
            "ground_truths": _("ground truths"),
            "scorers": _("scorers"),
        }
        rows = [(label, _had(worker.inventory.get(kind, []))) for kind, label in names.items()]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {}</li>", rows))

    @admin.display(description=_("lacks, of what leaderboards need"))
    def lacks(self, worker: Worker) -> str:
        boards = boards_with_needs().exclude(dataset="", image="", scorer="").order_by("title")[:BOARDS_SHOWN]
        rows = [
            (board.title, ", ".join(lacks)) for board in boards if (lacks := lacks_in_words(board, worker.inventory))
        ]
        return (
            format_html("<ul>{}</ul>", format_html_join("", "<li><strong>{}</strong>: {}</li>", rows)) if rows else "–"
        )

    def get_fields(self, request, obj=None):
        shown = {"sandbox_report": ["report"], "limits": ["held"], "inventory": ["has", "lacks"]}
        return [name for field in Worker._meta.fields for name in shown.get(field.name, [field.name])]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)


@admin.register(TrackingOutbox)
class TrackingOutboxAdmin(MachineMadeAdmin):
    list_display = [job_id, "tries", "refusals", "next_try_at", "last_error", "created_at"]
    search_fields = ["job"]
    search_help_text = _("A job's id.")
    ordering = ["created_at"]

    def find(self, text, by):
        job = as_uuid(text)
        return [Q(pk=job)] if job else []
