from django.contrib import admin
from django.db.models import Q
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from accounts.admin_base import MachineMadeAdmin, as_uuid, people_named
from leaderboards.admin import LeaderboardFilter
from submissions.models import Submission


@admin.register(Submission)
class SubmissionAdmin(MachineMadeAdmin):
    list_display = ["id", "user", "leaderboard", "entrypoint", "kind", "size_bytes", "created_at"]
    list_filter = [LeaderboardFilter]
    list_select_related = ["user", "leaderboard"]
    search_fields = ["id"]
    search_help_text = _("A submission's id, its SHA-256, or the beginning of a user's name or address.")
    ordering = ["-created_at", "-id"]

    def find(self, text, by):
        if (one := as_uuid(text)) is not None:
            return [Q(pk=one)]
        return [Q(sha256=text)] if len(text) == 64 else [Q(user__in=people_named(text, by))]

    @admin.display(description=_("jobs"))
    def its_jobs(self, submission: Submission) -> str:
        address = reverse("admin:jobs_job_changelist")
        return format_html('<a href="{}?q={}">{}</a>', address, submission.pk, _("jobs"))

    def get_fields(self, request, obj=None):
        return ["its_jobs", *(field.name for field in Submission._meta.fields)]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)
