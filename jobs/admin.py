"""Jobs for operators: everything visible, nothing of a job's record editable; actions call the same services as the API."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from accounts.admin_base import MachineMadeAdmin, record
from accounts.refusals import RequestRefused
from jobs.models import Job, JobAttempt, TrackingOutbox, Worker
from jobs.queries import mlflow_ui_link
from jobs.services import cancel_job, rerun_job


class AttemptInline(admin.TabularInline):
    model = JobAttempt
    extra = 0
    can_delete = False
    fields = readonly_fields = ["number", "worker_name", "outcome", "detail", "started_at", "ended_at"]

    def has_add_permission(self, request, obj=None):
        return False


@admin.register(Job)
class JobAdmin(MachineMadeAdmin):
    list_display = [
        "id",
        "status",
        "user",
        "leaderboard",
        "resource_class",
        "score",
        "error_code",
        "attempt",
        "created_at",
    ]
    list_filter = ["status", "error_code", "resource_class", "leaderboard"]
    list_select_related = ["user", "leaderboard"]
    search_fields = ["=id", "user__username", "=error_code", "=submission__id"]
    search_help_text = _("A job's or submission's id, a user's name or an error code.")
    actions = ["cancel", "run_again"]
    inlines = [AttemptInline]

    @admin.display(description=_("links"))
    def links(self, job: Job) -> str:
        page, submission = (
            job.get_absolute_url(),
            reverse("admin:submissions_submission_change", args=[job.submission_id]),
        )
        person = reverse("admin:accounts_user_change", args=[job.user_id])
        mlflow = mlflow_ui_link(job)
        shown = format_html(
            '<a href="{}">page and log</a> · <a href="{}">submission</a> · <a href="{}">person</a>',
            page,
            submission,
            person,
        )
        return format_html('{} · <a href="{}">MLflow</a>', shown, mlflow) if mlflow else shown

    def get_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        return ["links", *(str(field.name) for field in Job._meta.fields)]

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        return self.get_fields(request, obj)

    @admin.action(description=_("Cancel"), permissions=["change"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        self._each(request, jobs, _("cancelled"), lambda job: cancel_job(job, by=request.user))

    @admin.action(description=_("Run again, behind new work"), permissions=["change"])
    def run_again(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        self._each(request, jobs, _("run again"), lambda job: rerun_job(job, by=request.user))

    def _each(self, request: HttpRequest, jobs: QuerySet[Job], verb: Any, act: Any) -> None:
        done, refused = 0, []
        for job in jobs[:1000]:
            try:
                act(job)
            except RequestRefused as refusal:
                refused.append(f"{job.pk}: {refusal.message}")
                continue
            done += 1
            record(request, job, str(verb))
        if done:
            self.message_user(request, _("%(count)s jobs: %(verb)s.") % {"count": done, "verb": verb})
        for line in refused[:10]:
            self.message_user(request, line, messages.WARNING)


@admin.register(JobAttempt)
class JobAttemptAdmin(MachineMadeAdmin):
    list_display = ["job", "number", "worker_name", "outcome", "started_at", "ended_at"]
    list_filter = ["outcome"]
    search_fields = ["=job__id", "=worker_name"]
    ordering = ["-id"]


@admin.register(Worker)
class WorkerAdmin(MachineMadeAdmin):
    list_display = ["name", "state", "hostname", "pid", "executor", "heartbeat_at", "drain_requested_at"]
    list_filter = ["state"]
    search_fields = ["name", "hostname"]
    actions = ["drain"]

    @admin.action(description=_("Drain: finish the job in hand, then stop"), permissions=["change"])
    def drain(self, request: HttpRequest, workers: QuerySet[Worker]) -> None:
        for worker in workers.filter(stopped_at=None):
            Worker.objects.filter(pk=worker.pk).update(drain_requested_at=Now())
            record(request, worker, "drain requested")
        self.message_user(request, _("They stop when their job in hand has ended."))


@admin.register(TrackingOutbox)
class TrackingOutboxAdmin(MachineMadeAdmin):
    list_display = ["job", "tries", "next_try_at", "last_error", "created_at"]
    search_fields = ["=job__id"]


@admin.register(LogEntry)
class LogEntryAdmin(MachineMadeAdmin):
    """Who did what, and when."""

    list_display = ["action_time", "user", "content_type", "object_repr", "change_message"]
    list_filter = ["action_flag"]
    search_fields = ["=object_id", "user__username"]
    list_select_related = ["user", "content_type"]
    ordering = ["-id"]
