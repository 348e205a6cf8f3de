"""Actions of operators on sets of objects: planned, looked at, confirmed with a reason, carried out in small steps.

Each app registers its actions (its own operations.py). A plan fixes the set, so that what the preview showed is what is
done. A small set is done at once; a large one by the reconciler, a chunk a transaction, so that no request waits, and a
crash in between neither repeats nor forgets an object.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.apps import apps
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts.models import Operation, User
from accounts.refusals import Conflict, Forbidden, InvalidInput, RequestRefused

MOST = 10_000
AT_ONCE = 50
CHUNK = 50
SHOWN_REFUSALS = 20
KEPT_DAYS = 90


class ReasonForm(forms.Form):
    """What every action asks: why."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text=_("Recorded with your name and the time."),
    )

    def parameters(self) -> dict[str, Any]:
        """What the action needs beyond the reason, as JSON."""
        return {name: value for name, value in self.cleaned_data.items() if name != "reason"}


class Action:
    """One thing that operators do to objects of a model. `apply` does it to one and records it."""

    code = ""
    label: Any = ""
    model = ""  # "jobs.job"
    permission = ""  # "jobs.change_job"
    form_class: type[ReasonForm] = ReasonForm
    is_grave = False
    chosen_field = "pk"  # what of the objects in a list is planned

    def objects(self) -> QuerySet[Any]:
        """Where the objects come from, with what their names and `apply` need."""
        return apps.get_model(self.model)._default_manager.all()

    def suits(self, obj: Any) -> bool:
        """Whether the object's own page offers it now; what came in between is refused by `apply`."""
        return True

    def reaches(self, obj: Any, by: User) -> bool:
        """Return whether the permission that `by` holds covers this object."""
        return True

    def initial(self, ids: Sequence[Any]) -> dict[str, Any]:
        """What stands in the form at first: what holds now, where that is one thing."""
        return {}

    def effects(self, ids: Sequence[Any]) -> list[str]:
        """What will happen and how long it will take, in sentences; bounded work for any number of objects."""
        return []

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        raise NotImplementedError


ACTIONS: dict[str, Action] = {}
# What else is recorded, in words: forms, switches and buttons that are no planned action.
NAMES: dict[str, Any] = {
    "add": _("add"), "change": _("change"), "delete": _("delete"), "withdrawn": _("Withdraw"),
}  # fmt: skip


def in_words(code: str) -> str:
    """What an operator did, in the reader's language; an old code that nobody knows any more as it is."""
    return str(ACTIONS[code].label if code in ACTIONS else NAMES.get(code, code))


def kind_in_words(label: str) -> str:
    """The name of a model, such as jobs.job, in the reader's language; one that is gone as it is."""
    try:
        return str(apps.get_model(label)._meta.verbose_name)
    except (LookupError, ValueError):
        return label


def register(kind: type[Action]) -> type[Action]:
    ACTIONS[kind.code] = kind()
    return kind


def actions_for(model_label: str, user: Any) -> list[Action]:
    """What the user may do to objects of the model."""
    return [action for action in ACTIONS.values() if action.model == model_label and user.has_perm(action.permission)]


def plan(code: str, ids: Sequence[Any], *, by: User) -> Operation:
    """Fix the set of objects that the action is for. Refuses an unknown action, no or too many objects."""
    action = ACTIONS.get(code)
    if action is None:
        raise InvalidInput("unknown_action", _("There is no such action."))
    refuse_without_permission(action, by)
    if not ids:
        raise InvalidInput("nothing_chosen", _("Nothing is chosen."))
    if len(ids) > MOST:
        raise InvalidInput("too_many_chosen", _("At most %(most)d at once; narrow the filter."), most=MOST)
    return Operation.objects.create(action=code, object_ids=[str(one) for one in ids], total=len(ids), user=by)


def refuse_without_permission(action: Action, user: User) -> None:
    if not (user.is_active and user.is_staff and user.has_perm(action.permission)):
        raise Forbidden("forbidden", _("You may not do this."))


def confirm(operation: Operation, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
    """Begin it: a small one is done when this returns. Conflict when it was begun before."""
    refuse_without_permission(ACTIONS[operation.action], by)
    begun = Operation.objects.filter(pk=operation.pk, user=by, state=Operation.State.PLANNED).update(
        state=Operation.State.RUNNING, reason=reason, parameters=parameters
    )
    if not begun:
        raise Conflict("already_begun", _("It has begun already, or is another operator's."))
    if operation.total <= AT_ONCE:
        while step(operation.pk):
            pass


def run_due() -> int:
    """A chunk of each large operation that is under way (the reconciler calls it); how many are left."""
    due = Operation.objects.filter(state=Operation.State.RUNNING).order_by("created_at")
    return sum(step(pk) for pk in list(due.values_list("pk", flat=True)[:10]))


@transaction.atomic
def step(operation_id: UUID) -> bool:
    """The next chunk, with its progress in one transaction; whether anything is left."""
    running = Operation.objects.select_for_update(skip_locked=True).select_related("user")
    operation = running.filter(pk=operation_id, state=Operation.State.RUNNING).first()
    if operation is None:
        return False
    ids = operation.object_ids[operation.position : operation.position + CHUNK]
    done, refusals = _apply_all(operation, ids)
    position = operation.position + len(ids)
    is_over = position >= operation.total
    Operation.objects.filter(pk=operation.pk).update(
        position=position,
        done=F("done") + done,
        refused=F("refused") + len(refusals),
        refusals=(operation.refusals + refusals)[:SHOWN_REFUSALS],
        **({"state": Operation.State.DONE, "finished_at": Now()} if is_over else {}),
    )
    return not is_over


def _apply_all(operation: Operation, ids: Sequence[str]) -> tuple[int, list[str]]:
    """Each object on its own: one that refuses does not stop the others. (How many were done, refusals in words)."""
    action, done, refusals = ACTIONS[operation.action], 0, []
    found = {str(obj.pk): obj for obj in action.objects().filter(pk__in=ids)}
    for one in ids:
        try:
            refuse_without_permission(action, operation.user)
            if one not in found:
                raise Conflict("gone", _("It is not there any more."))
            if not action.reaches(found[one], operation.user):
                raise Conflict("above_you", _("Only a superuser may do this to staff."))
            with transaction.atomic():
                action.apply(found[one], by=operation.user, reason=operation.reason, parameters=operation.parameters)
            done += 1
        except RequestRefused as refusal:
            refusals.append(f"{found.get(one, one)}: {refusal.message}"[:300])
    return done, refusals


def sweep_old() -> None:
    """Plans that nobody confirmed within a day, and what was done long ago; the record of actions stays."""
    old = Operation.objects.exclude(state=Operation.State.RUNNING)
    old.filter(created_at__lt=Now() - timedelta(days=KEPT_DAYS)).delete()
    old.filter(state=Operation.State.PLANNED, created_at__lt=Now() - timedelta(days=1)).delete()
