"""Staff with one permission each, against every form, action and page of the console.

Only what the permission covers may change, nothing of another member of staff, and no permission may be won. The forms and
actions are those of `admin.site`, so that a new one is attacked without a change here.
"""

import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.db.models import Model
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse

from accounts.admin_base import MachineMadeAdmin
from accounts.models import ApiToken, Invitation, KnownLogin, LoginCounter, Operation, OperatorAction, User
from accounts.operations import ACTIONS, plan
from accounts.refusals import RequestRefused
from accounts.signing_up import create_invitation
from accounts.tests.factories import ApiTokenFactory, UserFactory, make_hashes_quick
from jobs.tests.factories import JobAttemptFactory, WorkerFactory
from leaderboard_site.tests.operating import signed_in
from leaderboards.models import Disqualification, Entry, Metric, Pause, ScoreVersion
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db
PASSWORD = "taken-over-4711"
# The record of what was done, and what a login leaves.
NOT_COMPARED = {OperatorAction, Operation, Session, LoginCounter, KnownLogin, Permission}
# An action's permission and what else than its own model it changes on purpose (docs/console.md).
SIDE_EFFECTS = {
    "jobs.change_job": {"jobs.job", "jobs.jobattempt"},
    "leaderboards.change_entry": {"leaderboards.entry", "leaderboards.disqualification", "leaderboards.standing"},
    "leaderboards.change_leaderboard": {
        "leaderboards.pause", "leaderboards.baseline", "leaderboards.entry", "leaderboards.standing",
        "leaderboards.scoreversion",
    },
    "leaderboards.add_leaderboard": {"leaderboards.metric", "leaderboards.leaderboard"},
    "accounts.change_user": {"accounts.apitoken", "jobs.job", "jobs.jobattempt", "auth.group"},
}  # fmt: skip


def opens_a_form(model: type[Model], verb: str) -> bool:
    """Return whether the console has such a form at all: rows that the machine writes cannot be edited."""
    page = admin.site._registry[model]
    if isinstance(page, MachineMadeAdmin) and verb == "change" and not page.actions:
        return False
    request = HttpRequest()
    request.user = User(is_staff=True, is_superuser=True)
    return bool(getattr(page, f"has_{verb}_permission")(request))


def permissions_to_try() -> list[tuple[str, ...]]:
    """List each permission that may change rows by itself, and all others together.

    A permission only adds rights: what staff with all the others cannot do, staff with one of them cannot do either.
    """
    of_actions = {action.permission for action in ACTIONS.values()}
    single, others = [], []
    for model in admin.site._registry:
        for verb in ("view", "add", "change", "delete"):
            permission = f"{model._meta.app_label}.{verb}_{model._meta.model_name}"
            may_change_rows = permission in of_actions or (verb != "view" and opens_a_form(model, verb))
            (single if may_change_rows else others).append(permission)
    return [*((permission,) for permission in single), tuple(others)]


class World:
    """People of each kind with something of their own, and one object of each model of the console."""

    def __init__(self) -> None:
        self.participant = UserFactory(username="participant")
        self.banned = UserFactory(username="banned", is_active=False)
        self.colleague = UserFactory(username="colleague", email="colleague@example.org", is_staff=True)
        self.colleague.user_permissions.add(Permission.objects.get(codename="view_job"))
        self.suspended = UserFactory(username="suspended", is_staff=True, is_active=False)
        self.root = UserFactory(username="root", is_staff=True, is_superuser=True)
        self.group = Group.objects.create(name="organizers")
        self.group.permissions.add(Permission.objects.get(codename="change_leaderboard"))
        for person in (self.participant, self.colleague, self.root):
            ApiTokenFactory(user=person)
        create_invitation(by=self.root)
        board = LeaderboardFactory()
        ScoreVersion.objects.create(leaderboard=board, number=1, scorer="regression", ground_truth="labels")
        EntryFactory(leaderboard=board, user=self.participant)
        JobAttemptFactory(job__leaderboard=board, job__user=self.colleague)
        Disqualification.objects.create(job=JobAttemptFactory(job__status="completed").job, reason="x")
        WorkerFactory()
        Pause.objects.create(leaderboard=None, reason="x")
        self.protected = [self.colleague, self.suspended, self.root]

    def state(self) -> dict[str, dict[Any, Any]]:
        """Return every row of every model of the console and of people's rights, by model."""
        models = {
            *admin.site._registry,
            Metric,
            User.groups.through,
            User.user_permissions.through,
            Group.permissions.through,
        }
        return {
            model._meta.label_lower: {row["pk"]: row for row in model._base_manager.values("pk", *_columns(model))}
            for model in models - NOT_COMPARED
        }


def _columns(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


def changed(before: dict[str, dict[Any, Any]], after: dict[str, dict[Any, Any]]) -> dict[str, set[Any]]:
    """Return the keys of the rows that were added, changed or removed, by model."""
    found = {
        label: {
            pk for pk in before[label].keys() | after[label].keys() if before[label].get(pk) != after[label].get(pk)
        }
        for label in before
    }
    return {label: keys for label, keys in found.items() if keys}


def hostile_form(world: World) -> dict[str, Any]:
    """Return what an attacker would send: each field, whether the form shows it or not."""
    name = f"mine{uuid.uuid4().hex[:6]}"
    return {
        "username": name, "email": f"{name}@evil.example", "password": PASSWORD, "password1": PASSWORD,
        "password2": PASSWORD, "new_password1": PASSWORD, "new_password2": PASSWORD, "usable_password": "true",
        "is_staff": "on", "is_superuser": "on", "is_active": "on", "groups": [str(world.group.pk)],
        "user_permissions": [str(pk) for pk in Permission.objects.values_list("pk", flat=True)[:5]],
        "permissions": [str(pk) for pk in Permission.objects.values_list("pk", flat=True)[:5]],
        "submissions_per_hour": "99999", "concurrent_jobs": "999", "name": name, "title": name, "slug": name,
        "user": str(world.root.pk), "digest": "0" * 64, "note": name, "status": "completed", "score": "1", "reason": "x",
        "expires_at_0": "2099-01-01", "expires_at_1": "00:00", "revoked_at_0": "", "revoked_at_1": "", "post": "yes",
        "last_login_0": "2020-01-01", "last_login_1": "00:00", "date_joined_0": "2020-01-01", "date_joined_1": "00:00",
    }  # fmt: skip


def addresses(world: World) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every page of the console about every object, with what is sent there."""
    for model in admin.site._registry:
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        form = hostile_form(world)
        yield reverse(f"admin:{label}_add"), form
        yield reverse(f"admin:{label}_changelist"), {**form, "action": "delete_selected", "_save": "1"}
        people = model in (User, ApiToken)
        for obj in model._default_manager.all()[: None if people else 1]:
            for page in ("change", "delete"):
                yield reverse(f"admin:{label}_{page}", args=[obj.pk]), hostile_form(world)
    for person in User.objects.all():
        yield reverse("admin:auth_user_password_change", args=[person.pk]), hostile_form(world)


def act(client: Client, by: User) -> None:
    """Try every action on all objects that it suits: from the list, by its own address, and past both."""
    for code, action in ACTIONS.items():
        model = action.objects().model if action.chosen_field == "pk" else Entry
        ids = [str(pk) for pk in model._default_manager.values_list("pk", flat=True)]
        app, _, name = action.model.partition(".")
        sent = {"action": code, "_selected_action": ids}
        begun = [client.post(reverse(f"admin:{app}_{name}_changelist"), sent)]
        begun += [client.post(reverse("admin:operation_plan"), {"action": code, "object": pk}) for pk in ids]
        for answer in begun:
            if answer.status_code == 302 and "/operations/" in answer["Location"]:
                client.get(answer["Location"])
                client.post(
                    answer["Location"], {"reason": "Because.", "submissions_per_hour": "9", "concurrent_jobs": "9"}
                )
        with pytest.raises(RequestRefused) if not by.has_perm(action.permission) else nullcontext():
            plan(code, ids, by=by)
    for name in ("withdraw", "delete_selected"):
        ids = [str(pk) for pk in Invitation.objects.values_list("pk", flat=True)]
        client.post(
            reverse("admin:accounts_invitation_changelist"), {"action": name, "_selected_action": ids, "post": "yes"}
        )


def rights(person: User) -> tuple[Any, ...]:
    fresh = User.objects.get(pk=person.pk)
    return (
        fresh.is_active, fresh.is_staff, fresh.is_superuser, sorted(fresh.get_all_permissions()),
        sorted(fresh.groups.values_list("name", flat=True)),
    )  # fmt: skip


def covered_by(permissions: tuple[str, ...]) -> set[str]:
    """Return the labels of the models whose rows may change."""
    if len(permissions) > 1:
        return set()
    app, _, codename = permissions[0].partition(".")
    own = set() if codename.startswith("view_") else {f"{app}.{codename.partition('_')[2]}"}
    return own | SIDE_EFFECTS.get(permissions[0], set())


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch):
    make_hashes_quick(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "permissions", permissions_to_try(), ids=lambda given: given[0] if len(given) == 1 else "all that change nothing"
)
def test_a_permission_changes_what_it_covers_and_nothing_else(permissions):
    world = World()
    client, staff = signed_in(*permissions, username="staff")
    is_about_people = permissions[0].startswith(("accounts.", "auth.")) or len(permissions) > 1
    client.raise_request_exception = False
    world.protected.append(staff)
    before, rights_before = world.state(), [rights(person) for person in world.protected]
    people = list(User.objects.values_list("pk", flat=True))
    broken = {}
    for address, sent in list(addresses(world)):
        answers = [client.post(address, sent)]
        if is_about_people and address.startswith(("/admin/accounts/", "/admin/auth/")):
            answers.append(client.get(address))
        for answer in answers:
            # A form that is refused before its view attacks nothing.
            if answer.status_code == 400 or answer.status_code >= 500:
                broken[address] = answer.status_code
    act(client, staff)
    assert broken == {}
    after = world.state()
    differs = changed(before, after)
    assert differs.keys() <= covered_by(permissions)
    # Nothing of another member of staff: the account, the tokens, the rights.
    assert [rights(person) for person in world.protected] == rights_before
    untouched = {person.pk for person in world.protected}
    assert differs.get("accounts.user", set()) & untouched == set()
    tokens = ApiToken.objects.filter(user__in=untouched).values_list("pk", flat=True)
    assert differs.get("accounts.apitoken", set()) & set(tokens) == set()
    # No way to more rights, through new people or old ones either.
    raised = User.objects.exclude(pk__in=untouched).exclude(is_staff=False, is_superuser=False)
    assert list(raised) == []
    for through in (User.groups.through, User.user_permissions.through, Group.permissions.through):
        assert before[through._meta.label_lower] == after[through._meta.label_lower]
    if permissions not in (("accounts.add_user",), ("accounts.delete_user",)):
        assert sorted(people) == sorted(User.objects.values_list("pk", flat=True))
