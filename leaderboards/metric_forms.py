"""The console's table of a leaderboard's metrics: defaults from the scorer, and one position each."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.admin_base import LabelledFormSet
from leaderboards.declarations import BadDeclaration, DeclaredMetrics
from leaderboards.metric_defaults import MetricRefused, complete_metric
from leaderboards.models import Leaderboard, Metric
from leaderboards.scoring import BUILT_IN, declared_metrics

LAST_POSITION = 32767
DATALIST = "declared-metrics"


class LeaderboardForm(forms.ModelForm):
    force_direction = forms.BooleanField(
        label=gettext_lazy("Accept a direction against the scorer’s"),
        required=False,
        help_text=gettext_lazy(
            "Only needed for a metric that is to rank in the opposite direction of the one that its scorer declares."
        ),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for name in ("description", "rules"):
            # A browser sends CRLF, which a YAML file shows as escapes.
            if name in given:
                given[name] = given[name].replace("\r\n", "\n")
        # The metrics' rows ask for it.
        self.instance.forces_direction = given.get("force_direction", False)
        return given


class MetricForm(forms.ModelForm):
    """A metric. In a new row, what is left empty is as the scorer declares it."""

    formset: "MetricFormSet"
    direction = forms.ChoiceField(
        label=Metric._meta.get_field("direction").verbose_name,
        required=False,
        choices=[("", gettext_lazy("as is usual for it")), *Metric.Direction.choices],
    )
    position = forms.IntegerField(
        label=Metric._meta.get_field("position").verbose_name,
        help_text=gettext_lazy("The first one ranks. Empty: the next position."),
        required=False,
        min_value=0,
        max_value=LAST_POSITION,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].widget.attrs["list"] = DATALIST
        if self.instance.pk is None:
            self.initial = {**self.initial, "direction": "", "position": None}

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if "name" not in given or self.formset.declaration_problem:
            return given
        is_new = self.instance.pk is None
        said = {
            name: given.get(name)
            for name in ("name", "label", "unit", "direction", "minimum", "maximum")
            if name == "direction" or not is_new or given.get(name) not in ("", None)
        }
        before = None if is_new or self.formset.is_scorer_new else self.instance
        try:
            complete = complete_metric(
                self.formset.declared,
                said,
                is_forced=getattr(self.formset.instance, "forces_direction", False),
                before=before,
            )
        except MetricRefused as refusal:
            self.add_error(refusal.field, capfirst(refusal.sentence))
            return given
        return given | complete

    def _get_validation_exclusions(self) -> set[str]:
        # The formset looks at all positions together: rows may swap theirs.
        return {*super()._get_validation_exclusions(), "position"}  # type: ignore[misc]


class MetricFormSet(LabelledFormSet):
    @cached_property
    def declared(self) -> DeclaredMetrics | None:
        """The declaration of the scorer that the form names. Raises BadDeclaration."""
        scorer = self.instance.scorer
        return declared_metrics(
            scorer if isinstance(scorer, str) else ""
        )  # else the database's default, which is empty

    @cached_property
    def declaration_problem(self) -> str:
        try:
            self.declared  # noqa: B018 - it is read
        except BadDeclaration as refusal:
            return refusal.message
        return ""

    @cached_property
    def is_scorer_new(self) -> bool:
        """Return whether the form changes the scorer."""
        before = Leaderboard.objects.filter(pk=self.instance.pk).values_list("scorer", flat=True).first()
        return before != self.instance.scorer

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        form.formset = self

    def clean(self) -> None:
        super().clean()
        if self.declaration_problem:
            raise ValidationError(self.declaration_problem)
        kept = [form for form in self.forms if not self._should_delete_form(form)]  # type: ignore[attr-defined]
        if any(form.errors for form in kept):
            return
        rows = [form for form in kept if form.instance.pk or form.has_changed()]
        placed = [form for form in rows if form.cleaned_data["position"] is not None]
        self._place(placed, [form for form in rows if form not in placed])

    def _place(self, placed: list[Any], without: list[Any]) -> None:
        """Give rows without a position the next ones. Raises ValidationError if two share one."""
        known = {form.instance.pk for form in self.forms}
        others = Metric.objects.filter(leaderboard=self.instance.pk).exclude(pk__in=known - {None})
        names = dict(others.values_list("position", "name"))  # added since the page was opened
        for form in placed:
            position, name = form.cleaned_data["position"], form.cleaned_data["name"]
            if (other := names.setdefault(position, name)) != name:
                raise ValidationError(
                    _("%(first)s and %(second)s have the same position, %(position)d: give each its own.")
                    % {"first": other, "second": name, "position": position}
                )
        last = max(names, default=-1)
        if last + len(without) > LAST_POSITION:
            raise ValidationError(_("The last position is %(last)d.") % {"last": LAST_POSITION})
        for position, form in enumerate(without, last + 1):
            form.cleaned_data["position"] = form.instance.position = position


def choices_for_page(scorer: str) -> dict[str, list[dict[str, Any]]]:
    """Return the declared metrics by scorer: those of the platform's scorers, and of the one that the page shows."""
    declared = {name: DeclaredMetrics(name, one.metrics) for name, one in BUILT_IN.items()}
    try:
        declared[scorer] = declared_metrics(scorer) or DeclaredMetrics(scorer, ())
    except BadDeclaration:
        pass
    return {
        name: [{"name": metric.name, **metric.defaults} for metric in one.metrics] for name, one in declared.items()
    }
