"""What the admin pages of all apps share: lists that stay fast, rows that nobody edits, actions with a preview."""

from collections.abc import Callable
from typing import Any, ClassVar, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import DataError, models
from django.db.models import QuerySet
from django.db.models.functions import Upper
from django.forms import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import OperatorAction, User
from accounts.operations import MOST, Action, actions_for, plan
from accounts.permissions import may_view_people
from accounts.refusals import RequestRefused
from accounts.services import record_action
from core.names import plain_name
from core.time_zones import zone_named

PEOPLE_FOUND = 100
# Each word adds a condition on each searched field.
LONGEST_SEARCH, MOST_WORDS = 150, 8
# No page shows them, but a filter by their beginning would tell them letter by letter.
SECRET_FIELDS = {"password", "digest"}
# The console's own filters need none, and the time that an expression takes has no bound.
EXPRESSIONS = {"regex", "iregex"}
# Rows of a form's table; a board file has as many metrics at most. Django makes a form for each that a request announces.
MOST_ROWS = 100


class CappedPaginator(Paginator):
    """Never counts further than CAP rows: what lies beyond is found by a filter or the search, not by paging."""

    CAP = 10_000

    @cached_property
    def count(self) -> int:
        return int(cast(QuerySet[Any], self.object_list).order_by()[: self.CAP].values("pk").count())


class CappedChangeList(ChangeList):
    """The order is the index's and nobody else's: a heading that sorts would sort a million rows."""

    def get_ordering_field_columns(self):
        return {}

    def get_ordering(self, request, queryset):
        return list(self.model_admin.get_ordering(request) or self.lookup_opts.ordering or ())

    def get_results(self, request):
        try:
            super().get_results(request)
        except (DataError, OverflowError, ValueError) as error:
            # A value that only the database can judge, such as a time at the end of the year 9999.
            raise IncorrectLookupParameters from error

    @property
    def is_capped(self) -> bool:
        return bool(self.result_count >= CappedPaginator.CAP)


def people_named(text: str, by: Any) -> list[int]:
    """Return the first PEOPLE_FOUND users whose username, display name or e-mail address begins with the text, by indexes.

    E-mail addresses are searched only for staff who may view users. Others could find one out letter by letter.
    """
    by_name = User.objects.filter(username__startswith=text).order_by("username").values_list("pk", flat=True)
    found = list(by_name[:PEOPLE_FOUND])
    if text:
        by_display_name = User.objects.filter(first_name__istartswith=plain_name(text)).order_by(Upper("first_name"))
        found += by_display_name.values_list("pk", flat=True)[:PEOPLE_FOUND]
    if text and may_view_people(by):
        by_email = User.objects.filter(email__startswith=text).order_by("email").values_list("pk", flat=True)
        found += by_email[:PEOPLE_FOUND]
    return found


@admin.display(description=_("user"))
def person(row: Any) -> str:
    """Return the row's user as the console shows people; select `user` with the rows."""
    return str(row.user.full_label) if row.user else "–"


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


class OperatedAdmin(admin.ModelAdmin):
    """A list that costs the same with a million rows, the model's planned actions, and one record of who did what."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    list_per_page = 50
    list_max_show_all = 0
    sortable_by = ()
    change_form_template = "admin/console/change_form.html"
    change_list_template = "admin/console/change_list.html"
    object_history_template = "admin/console/history.html"

    # Functions that return warnings about an object. Apps that import this one add theirs here.
    notices: ClassVar[list[Callable[[Any], list[str]]]] = []

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CappedChangeList

    def notices_of(self, obj: models.Model) -> list[str]:
        return [sentence for notice in self.notices for sentence in notice(obj)]

    def formfield_for_dbfield(self, db_field, request, **kwargs):
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(field, forms.SplitDateTimeField):
            # Django writes "Date:" and "Time:" beside the two inputs, in no label.
            for widget, part in zip(field.widget.widgets, ("Date:", "Time:"), strict=True):
                widget.attrs["aria-label"] = f"{field.label} {gettext(part)}"
            zone = gettext("In the time zone %(zone)s.") % {"zone": timezone.get_current_timezone_name()}
            field.help_text = f"{field.help_text} {zone}".strip()
        return field

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # A form is read in the zone that it was shown in, although the operator's may have changed since.
        shown_in = zone_named(request.POST.get("_time_zone", "")) or timezone.get_current_timezone()
        with timezone.override(shown_in):
            response = super().changeform_view(request, *args, **kwargs)
            return response.render() if isinstance(response, TemplateResponse) else response

    def find(self, text: str, by: Any) -> list[models.Q] | None:
        """Return what a search by this operator means: conditions that an index serves, any of which may hold.

        None leaves it to `search_fields`: only for tables that stay small.
        """
        return None

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse filters by secrets and by expressions. Django refuses fields of related rows that no `list_filter` names."""
        is_refused = not (SECRET_FIELDS | EXPRESSIONS).isdisjoint(lookup.split("__"))
        return not is_refused and super().lookup_allowed(lookup, value, request)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        if len(text) > LONGEST_SEARCH or len(text.split()) > MOST_WORDS:
            said = gettext("Search: at most %(most)d characters and %(words)d words.")
            self.message_user(request, said % {"most": LONGEST_SEARCH, "words": MOST_WORDS}, messages.ERROR)
            return queryset.none(), False
        found = self.find(text, request.user)
        if found is None:
            return super().get_search_results(request, queryset, text)
        if not found:
            return queryset.none(), False
        condition = found[0]
        for other in found[1:]:
            condition |= other
        return queryset.filter(condition), False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        mine = actions_for(self.model._meta.label_lower, request.user)
        found = {action.code: (_starter(action), action.code, action.label) for action in mine}
        return {
            name: entry for name, entry in super().get_actions(request).items() if name != "delete_selected"
        } | found

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj is not None:
            usable = [
                one
                for one in actions_for(self.model._meta.label_lower, request.user)
                if one.chosen_field == "pk" and one.suits(obj) and one.reaches(obj, request.user)
            ]
            context["operations"] = usable
            context["notices"] = self.notices_of(obj)
            context["record"] = OperatorAction.objects.filter(kind=self.model._meta.label_lower, object_id=str(obj.pk))[
                :20
            ]
        return super().render_change_form(request, context, add, change, form_url, obj)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Who did what to this object: the same record as everywhere."""
        obj = self.get_object(request, object_id)
        if obj is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]
        if not self.has_view_or_change_permission(request, obj):
            raise PermissionDenied
        record = OperatorAction.objects.filter(kind=self.model._meta.label_lower, object_id=str(obj.pk))[:200]
        context = {**self.admin_site.each_context(request), "object": obj, "opts": self.opts, "record": record}
        context |= {"title": _("Who did what"), "module_name": str(self.opts.verbose_name_plural)}
        return render(request, self.object_history_template, context)

    # Django's own forms go into the same record, and no other.
    def log_addition(self, request, obj, message):
        record_action(request.user, "add", [obj], details={"message": message})

    def log_change(self, request, obj, message):
        record_action(request.user, "change", [obj], details={"message": message})

    def log_deletions(self, request, queryset):
        record_action(request.user, "delete", queryset)


def record(request: HttpRequest, obj: models.Model, what: str) -> None:
    """Write down which operator did what to which object, for an action without a preview."""
    record_action(request.user, what, [obj])  # type: ignore[arg-type]


def _starter(action: Action) -> Callable[..., HttpResponse | None]:
    """The list's action: fix the chosen set and go to its preview."""

    def start(modeladmin: Any, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
        ids = list(chosen.values_list(action.chosen_field, flat=True)[: MOST + 1])
        try:
            return redirect("admin:operation", plan(action.code, ids, by=request.user).pk)  # type: ignore[arg-type]
        except RequestRefused as refusal:
            modeladmin.message_user(request, refusal.message, messages.ERROR)
            return None

    return start


class LabelledFormSet(BaseInlineFormSet):
    def add_fields(self, form, index):
        super().add_fields(form, index)
        for name, field in form.fields.items():
            if not field.widget.is_hidden:
                field.widget.attrs["aria-label"] = capfirst(field.label or name)


class TableInline(admin.TabularInline):
    """Rows of a table, whose inputs say their column's name to who does not see the table's head."""

    formset = LabelledFormSet
    max_num = MOST_ROWS

    def get_formset(self, request, obj=None, **kwargs):
        return super().get_formset(request, obj, **{"absolute_max": MOST_ROWS, **kwargs})


class MachineMadeAdmin(OperatedAdmin):
    """Rows that the machine writes: shown whole, never added, edited or deleted by hand."""

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj is not None:
            # There is nothing to save.
            context |= {"title": gettext("View %s") % self.opts.verbose_name, "show_save": False}
            context["show_save_and_continue"] = False
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        return [field.name for field in self.model._meta.fields]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class FewFilter(admin.SimpleListFilter):
    """A filter over rows of another table: the first FEW of them and the one in use, never all."""

    FEW = 50
    field = ""

    def choose_from(self) -> QuerySet[Any]:
        raise NotImplementedError

    def lookups(self, request, model_admin):
        rows = self.choose_from()
        found = {str(row.pk): str(row) for row in rows[: self.FEW]}
        chosen = self.value()
        if chosen and chosen not in found and chosen.isdigit() and len(chosen) < 19:
            found |= {str(row.pk): str(row) for row in rows.filter(pk=chosen)}
        return list(found.items())

    def queryset(self, request, queryset):
        chosen = self.value()
        if not chosen:
            return queryset
        is_number = chosen.isascii() and chosen.isdigit() and len(chosen) < 19
        return queryset.filter(**{self.field: chosen}) if is_number else queryset.none()
