from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from accounts.admin_base import MachineMadeAdmin
from submissions.models import Submission


@admin.register(Submission)
class SubmissionAdmin(MachineMadeAdmin):
    list_display = ["id", "user", "leaderboard", "entrypoint", "kind", "size_bytes", "created_at"]
    list_filter = ["kind", "leaderboard"]
    list_select_related = ["user", "leaderboard"]
    search_fields = ["=id", "user__username", "=sha256"]
    ordering = ["-created_at", "-id"]

    @admin.display(description=_("jobs"))
    def its_jobs(self, submission: Submission) -> str:
        address = reverse("admin:jobs_job_changelist")
        return format_html('<a href="{}?submission__id__exact={}">{}</a>', address, submission.pk, _("jobs"))

    def get_fields(self, request, obj=None):
        return ["its_jobs", *(field.name for field in Submission._meta.fields)]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)
