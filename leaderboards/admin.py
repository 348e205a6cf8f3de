from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin_base import MachineMadeAdmin, record
from leaderboards.models import Baseline, Entry, Leaderboard, Metric
from leaderboards.services import rebuild_entries


class MetricInline(admin.TabularInline):
    model = Metric
    extra = 0


class BaselineInline(admin.TabularInline):
    model = Baseline
    extra = 0
    max_num = Baseline.MOST
    raw_id_fields = ["user"]


@admin.register(Leaderboard)
class LeaderboardAdmin(admin.ModelAdmin):
    list_display = ["title", "slug", "visibility", "takes_submissions", "opens_at", "closes_at"]
    list_filter = ["visibility", "takes_submissions"]
    search_fields = ["title", "slug"]
    prepopulated_fields = {"slug": ["title"]}
    inlines = [MetricInline, BaselineInline]
    actions = ["rebuild"]

    @admin.action(description=_("Rebuild entries from the completed jobs"), permissions=["change"])
    def rebuild(self, request, leaderboards):
        for leaderboard in leaderboards:
            count = rebuild_entries(leaderboard)
            record(request, leaderboard, f"entries rebuilt: {count}")
            self.message_user(request, f"{leaderboard}: {count}")


@admin.register(Entry)
class EntryAdmin(MachineMadeAdmin):
    list_display = ["leaderboard", "user", "score", "job", "submitted_at"]
    list_filter = ["leaderboard"]
    list_select_related = ["leaderboard", "user", "job"]
    search_fields = ["user__username", "=job__id"]
    ordering = ["-id"]
