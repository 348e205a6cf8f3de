from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.db.models.functions import Upper
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from accounts.admin_base import MachineMadeAdmin, as_uuid, people_named, person
from core.names import plain_name
from core.sizes import human_bytes
from leaderboards.admin import LeaderboardFilter
from submissions.models import Submission

SUBMISSIONS_FOUND = 100


def submissions_named(text: str) -> list[UUID]:
    """Return the first SUBMISSIONS_FOUND submissions whose name begins with the text, by an index."""
    named = Submission.objects.exclude(name="").filter(name__istartswith=plain_name(text)).order_by(Upper("name"))
    return list(named.values_list("pk", flat=True)[:SUBMISSIONS_FOUND]) if text else []


@admin.register(Submission)
class SubmissionAdmin(MachineMadeAdmin):
    list_display = ["id", "label", person, "leaderboard", "kind", "size", "created_at"]
    list_filter = [LeaderboardFilter]
    list_select_related = ["user", "leaderboard"]
    search_fields = ["id"]
    search_help_text = _(
        "A submission's id, its SHA-256, the beginning of its name, or that of a user's name or address."
    )
    ordering = ["-created_at", "-id"]

    @admin.display(description=_("name"))
    def label(self, submission: Submission) -> str:
        return submission.label

    @admin.display(description=_("size"), ordering="size_bytes")
    def size(self, submission: Submission) -> str:
        return human_bytes(submission.size_bytes)

    def find(self, text, by):
        if (one := as_uuid(text)) is not None:
            return [Q(pk=one)]
        found = [Q(user__in=people_named(text, by)), Q(pk__in=submissions_named(text))]
        return [Q(sha256=text)] if len(text) == 64 else found

    @admin.display(description=_("jobs"))
    def its_jobs(self, submission: Submission) -> str:
        address = reverse("admin:jobs_job_changelist")
        return format_html('<a href="{}?q={}">{}</a>', address, submission.pk, _("jobs"))

    def get_fields(self, request, obj=None):
        shown = {"size_bytes": "size"}
        return ["its_jobs", *(shown.get(field.name, field.name) for field in Submission._meta.fields)]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)
