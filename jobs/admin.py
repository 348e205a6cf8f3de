"""Jobs for operators: everything visible, nothing of a job's record editable; actions call the same services as the API."""

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

import jobs.operations  # noqa: F401 - registers its actions
from accounts.admin_base import MachineMadeAdmin, as_uuid, people_named
from accounts.refusals import Unavailable
from jobs.log_page import log_part
from jobs.models import ErrorCode, Job, JobAttempt, TrackingOutbox, Worker
from jobs.queries import mlflow_ui_link, read_scorer_log
from leaderboards.admin import LeaderboardFilter, job_id, score
from leaderboards.metric_defaults import metric_problems


def _scorer_log(job: Job) -> str | None:
    try:
        return read_scorer_log(job)
    except Unavailable as refusal:
        return refusal.message


@admin.register(Job)
class JobAdmin(MachineMadeAdmin):
    list_display = [
        "id",
        "status",
        "error_code",
        "user",
        "leaderboard",
        "created_at",
        score,
        "resource_class",
        "attempt",
    ]
    list_filter = ["status", "error_code", LeaderboardFilter, "created_at"]
    list_select_related = ["user", "leaderboard"]
    search_fields = ["id"]
    search_help_text = _("A job's or submission's id, an error code, or the beginning of a user's name or address.")
    ordering = ["-created_at", "-id"]
    change_form_template = "admin/console/job.html"

    def find(self, text, by):
        if (one := as_uuid(text)) is not None:
            return [Q(pk=one), Q(submission=one), Q(rerun_of=one)]
        if text in ErrorCode.values:
            return [Q(error_code=text)]
        return [Q(user__in=people_named(text, by))]

    def get_queryset(self, request):
        # A page of rows must not carry each job's list of a thousand files.
        found = super().get_queryset(request)
        is_list = request.resolver_match is not None and request.resolver_match.url_name == "jobs_job_changelist"
        return (
            found.defer("config", "params", "metrics", "artifacts", "limits_applied", "error_message", "error_told")
            if is_list
            else found
        )

    @admin.display(description=_("links"))
    def links(self, job: Job) -> str:
        addresses = [
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
            context["part"] = log_part(obj)
            context["scorer_log"] = _scorer_log(obj)
            if obj.error_code == ErrorCode.SCORER_FAILED:
                board = obj.leaderboard
                context["metric_problems"] = metric_problems(board.scorer, board.metrics.all())
            context["disqualification"] = getattr(obj, "disqualification", None)
            context["reruns"] = obj.reruns.order_by("created_at")[:20]
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=_("error message"))
    def error(self, job: Job) -> str:
        return job.error_in_words

    def get_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        names = [str(field.name) for field in Job._meta.fields]
        return ["links", *("error" if name == "error_message" else name for name in names)]

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        return self.get_fields(request, obj)


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

    @admin.display(description=_("limits that hold"))
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

    def get_fields(self, request, obj=None):
        names = [field.name for field in Worker._meta.fields]
        return ["report" if name == "sandbox_report" else name for name in names]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)


@admin.register(TrackingOutbox)
class TrackingOutboxAdmin(MachineMadeAdmin):
    list_display = [job_id, "tries", "next_try_at", "last_error", "created_at"]
    search_fields = ["job"]
    search_help_text = _("A job's id.")
    ordering = ["created_at"]

    def find(self, text, by):
        job = as_uuid(text)
        return [Q(pk=job)] if job else []
