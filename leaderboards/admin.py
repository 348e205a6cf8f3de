from typing import Any

from django.contrib import admin, messages
from django.db import connection
from django.db.models import Q
from django.shortcuts import redirect
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

import leaderboards.operations
import leaderboards.version_operations  # noqa: F401 - the same
from accounts.admin_base import FewFilter, MachineMadeAdmin, TableInline, as_uuid, people_named, person
from leaderboards.metric_defaults import metric_problems
from leaderboards.metric_forms import LeaderboardForm, MetricForm, MetricFormSet, choices_for_page
from leaderboards.models import Baseline, Disqualification, Entry, Leaderboard, Metric, Pause, ScoreVersion
from leaderboards.ranking_preview import PreviewedAdmin


@admin.display(description=_("job"))
def job_id(row: Any) -> str:
    """The id of a row's job, without reading the job."""
    return str(row.job_id)


@admin.display(description=_("score"), empty_value="-")
def score(row: Any) -> Any:
    """As many digits as tell people apart; the row's own page has all of them."""
    return None if row.score is None else f"{row.score:.6g}"


class MetricInline(TableInline):
    model = Metric
    form = MetricForm
    formset = MetricFormSet
    extra = 0


class BaselineInline(TableInline):
    model = Baseline
    extra = 0
    max_num = Baseline.MOST
    raw_id_fields = ["user"]


class LeaderboardFilter(FewFilter):
    title = _("leaderboard")
    parameter_name = "leaderboard"
    field = "leaderboard"

    def choose_from(self):
        return Leaderboard.objects.order_by("title", "id").only("id", "title")


@admin.register(Leaderboard)
class LeaderboardAdmin(PreviewedAdmin):
    form = LeaderboardForm
    change_form_template = "admin/console/leaderboard.html"
    change_list_template = "admin/console/leaderboards.html"
    notices = []  # those of leaderboards alone
    list_display = [
        "title",
        "slug",
        "is_draft",
        "visibility",
        "takes_submissions",
        "opens_at",
        "closes_at",
        "is_paused",
    ]
    # Publishing has an action, which asks.
    readonly_fields = ["is_draft"]
    list_select_related = ["pause"]
    search_fields = ["title"]
    search_help_text = _("The beginning of a title or a slug.")
    prepopulated_fields = {"slug": ["title"]}
    ordering = ["title", "id"]
    inlines = [MetricInline, BaselineInline]

    def get_object(self, request, object_id, from_field=None):
        # The row is locked from the check of the metrics' positions to the change.
        board = super().get_object(request, object_id, from_field)
        if board is None or request.method != "POST" or not connection.in_atomic_block:
            return board
        return Leaderboard.objects.select_for_update(no_key=True).filter(pk=board.pk).first()

    def get_fields(self, request, obj=None):
        fields = super().get_fields(request, obj)
        return fields if obj else [name for name in fields if name != "is_draft"]

    def save_model(self, request, obj, form, change):
        if not change:
            obj.is_draft = True
        super().save_model(request, obj, form, change)

    def save_related(self, request, form, formsets, change):
        super().save_related(request, form, formsets, change)
        if change:
            for sentence in self.notices_of(form.instance):
                self.message_user(request, sentence, messages.WARNING)

    def response_post_save_add(self, request, obj):
        if not self.has_view_or_change_permission(request, obj):
            return super().response_post_save_add(request, obj)
        # The next steps of a draft, and what is missing for it, are on its own page.
        self.message_user(request, gettext("It is a draft, which only operators see, until you publish it."))
        return redirect("admin:leaderboards_leaderboard_change", obj.pk)

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        context["declared_metrics"] = choices_for_page(obj.scorer if obj else "")
        context["metric_problems"] = metric_problems(obj.scorer, obj.metrics.all()) if obj else []
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=_("paused"), boolean=True)
    def is_paused(self, leaderboard: Leaderboard) -> bool:
        return getattr(leaderboard, "pause", None) is not None

    def find(self, text, by):
        return [Q(title__startswith=text), Q(slug__startswith=text)]


@admin.register(ScoreVersion)
class ScoreVersionAdmin(MachineMadeAdmin):
    """Digests of hidden labels: for operators alone."""

    list_display = ["leaderboard", "number", "scorer", "ground_truth", "chosen_at", "is_assumed"]
    list_filter = [LeaderboardFilter]
    list_select_related = ["leaderboard"]
    ordering = ["-id"]


@admin.register(Entry)
class EntryAdmin(MachineMadeAdmin):
    list_display = ["leaderboard", person, score, job_id, "submitted_at"]
    list_filter = [LeaderboardFilter]
    list_select_related = ["leaderboard", "user"]
    search_fields = ["user"]
    search_help_text = _("A job's id, or the beginning of a user's name or address.")
    ordering = ["-id"]

    def find(self, text, by):
        job = as_uuid(text)
        return [Q(job=job)] if job else [Q(user__in=people_named(text, by))]


@admin.register(Disqualification)
class DisqualificationAdmin(MachineMadeAdmin):
    list_display = ["created_at", job_id, "reason", "by"]
    list_select_related = ["by"]
    search_fields = ["job"]
    search_help_text = _("A job's id.")
    ordering = ["-created_at"]

    def find(self, text, by):
        job = as_uuid(text)
        return [Q(job=job)] if job else []


@admin.register(Pause)
class PauseAdmin(MachineMadeAdmin):
    list_display = ["__str__", "reason", "by", "created_at"]
    list_select_related = ["leaderboard", "by"]
    ordering = ["-id"]
