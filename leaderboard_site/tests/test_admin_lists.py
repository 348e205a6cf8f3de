"""The console's lists at a million rows: no sequential scan of a table that grows, no full count, no query a row; and no
field of the machine's that a form could change."""

import json
import re
from collections import defaultdict

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, Operation, OperatorAction, User
from accounts.signing_up import create_invitation
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.models import Job, JobAttempt
from jobs.tests.factories import JobAttemptFactory, JobFactory
from leaderboard_site.tests.operating import signed_in
from leaderboards.models import Entry, Leaderboard
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.models import Submission

pytestmark = pytest.mark.django_db
# Tables that grow with use; all others stay small (boards' metrics, permissions, pauses).
GROWING = {
    model._meta.db_table for model in (Job, JobAttempt, Submission, User, ApiToken, Entry, Leaderboard, OperatorAction)
}
ANY_ID = "8a1c5a0e-0000-4000-8000-000000000000"
LISTS = {
    "jobs_job": [
        "", "status__exact=running", "status__exact=failed", "error_code__exact=timeout", "leaderboard=1", "q=timeout",
        f"q={ANY_ID}", "q=person1", "q=person1&status__exact=failed", "q=Patch", "created_at__gte=2026-01-01+00:00:00%2B00:00", "p=2",
        "status__exact=pending&resource_class__exact=small", "o=3.2", "all=",
    ],
    "submissions_submission": ["", "leaderboard=1", f"q={ANY_ID}", "q=person1", f"q={'a' * 64}", "q=Patch"],
    "jobs_jobattempt": ["", "outcome__exact=lost", f"q={ANY_ID}", "q=worker-1"],
    "accounts_user": ["", "is_staff__exact=1", "is_active__exact=0", "q=person1", "q=7"],
    "accounts_apitoken": ["", "q=person1"],
    "leaderboards_leaderboard": ["", "q=Board"],
    "leaderboards_entry": ["", "leaderboard=1", "q=person1", f"q={ANY_ID}"],
    "accounts_operatoraction": ["", "action=cancel_job", "q=person1", f"q={ANY_ID}"],
}  # fmt: skip
ADDRESSES = [(name, query) for name, queries in LISTS.items() for query in queries]


@pytest.fixture
def operator(client):
    user = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def rows(number):
    board = LeaderboardFactory()
    for _ in range(number):
        attempt = JobAttemptFactory(job__leaderboard=LeaderboardFactory(), job__status="failed")
        EntryFactory(leaderboard=board)
        ApiTokenFactory(user=attempt.job.user)
        OperatorAction.objects.create(username="x", action="y", kind="jobs.job", object_id=str(attempt.job_id))


def scanned(plan):
    """The tables that a plan reads from end to end, or sorts whole."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned(inner) for inner in plan.get("Plans", [])))


def plans(queries):
    """What PostgreSQL would do for each reading, had it any other way than a sequential scan."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in queries:
            if re.match(r"\s*(SELECT|WITH)", query["sql"]) and "pg_" not in query["sql"]:
                cursor.execute("EXPLAIN (FORMAT JSON) " + query["sql"])
                found = cursor.fetchone()[0]
                yield query["sql"], (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        cursor.execute("SET LOCAL enable_seqscan = on")


def asked(client, address):
    client.get(address)
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(address)
    return answer, captured.captured_queries


@pytest.mark.parametrize(("name", "query"), ADDRESSES)
def test_no_list_reads_a_growing_table_from_end_to_end(client, operator, name, query):
    rows(3)
    answer, queries = asked(client, f"{reverse(f'admin:{name}_changelist')}?{query}")
    assert answer.status_code in {200, 302}
    looked_at = list(plans(queries))
    assert looked_at
    assert [(sql, scanned(plan) & GROWING) for sql, plan in looked_at if scanned(plan) & GROWING] == []


def test_a_sequential_scan_would_be_seen(operator):
    JobFactory()
    sql = str(Job.objects.filter(losses=7).query)
    assert [scanned(plan) for _, plan in plans([{"sql": sql}])] == [{"jobs_job"}]


@pytest.mark.parametrize(("name", "query"), ADDRESSES)
def test_counting_ends_at_the_cap(client, operator, name, query):
    _, queries = asked(client, f"{reverse(f'admin:{name}_changelist')}?{query}")
    counts = [one["sql"] for one in queries if "COUNT(" in one["sql"].upper()]
    assert [sql for sql in counts if "LIMIT 10000" not in sql] == []


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_list_asks_the_same_for_one_row_and_for_many(client, operator, name):
    address, numbers = reverse(f"admin:{name}_changelist"), defaultdict(list)
    for more in (1, 8):
        rows(more)
        numbers[name].append(len(asked(client, address)[1]))
    assert numbers[name][0] == numbers[name][1]


def test_page_numbers_end_at_the_cap(client, operator, monkeypatch):
    monkeypatch.setattr("accounts.admin_base.CappedPaginator.CAP", 60)
    board, person = LeaderboardFactory(), UserFactory()
    JobFactory.create_batch(70, leaderboard=board, user=person)
    html = client.get(reverse("admin:jobs_job_changelist")).content.decode()
    assert "The first 10,000 are listed" in html
    assert "?p=2" in html
    assert "?p=3" not in html


@pytest.mark.parametrize("text", ["'", "%", "\\", "🦉", "x" * 5000, "   ", "99999999999999999999"])
@pytest.mark.parametrize("name", sorted(LISTS))
def test_rubbish_in_the_search_finds_nothing(client, operator, name, text):
    rows(1)
    assert client.get(reverse(f"admin:{name}_changelist"), {"q": text}).status_code == 200


@pytest.mark.parametrize("value", ["x", "-1", "9" * 30, "1' OR 1=1"])
def test_rubbish_in_a_filter_finds_nothing(client, operator, value):
    rows(1)
    for name in ("jobs_job", "submissions_submission", "leaderboards_entry"):
        answer = client.get(reverse(f"admin:{name}_changelist"), {"leaderboard": value})
        assert answer.status_code == 200
        assert "0 " in answer.content.decode()


def test_jobs_are_found_by_what_people_know_of_them(client, operator):
    job = JobFactory(status="failed", error_code="timeout", user__username="ada", user__email="ada@example.org")
    JobFactory(user__username="bob")
    for text in (job.pk, job.submission_id, "timeout", "ada", "ad", "ada@"):
        found = client.get(reverse("admin:jobs_job_changelist"), {"q": str(text)}).context["cl"].result_list
        assert [one.pk for one in found] == [job.pk], text


# --- Forms ---------------------------------------------------------------------------------------------------------
# What people define, by model: all else is the machine's, or has an action that asks why.
EDITABLE = {
    "leaderboards.leaderboard": None,
    "auth.group": None,
    "accounts.user": {
        "username", "password", "usable_password", "password1", "password2", "first_name", "last_name", "email",
        "is_staff", "is_superuser", "groups", "user_permissions",
    },
}  # fmt: skip
OURS = [model for model in admin.site._registry if model._meta.app_label not in ("contenttypes", "sessions")]


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label_lower)
def test_no_field_of_the_machines_can_be_edited(rf, operator, model):
    label, shown = model._meta.label_lower, admin.site._registry[model]
    request = rf.get("/")
    request.user = operator
    fields = set(shown.get_form(request, obj=model(), change=True).base_fields)
    allowed = EDITABLE.get(label, set())
    assert allowed is None or fields <= allowed
    if label not in EDITABLE:
        assert not shown.has_delete_permission(request)
        assert label == "accounts.invitation" or not shown.has_add_permission(request)
        assert [inline for inline in shown.inlines if inline.can_delete or inline.extra] == []


@pytest.mark.parametrize("name", ["jobs_job", "leaderboards_entry"])
def test_a_list_shows_a_score_without_the_noise_of_floats(client, operator, name):
    EntryFactory(score=0.9 - 0.03 - 0.03)
    html = client.get(reverse(f"admin:{name}_changelist")).content.decode()
    assert '<td class="field-score">0.84</td>' in html


# --- What a search must not tell -----------------------------------------------------------------------------------


def viewer(model, *more):
    return signed_in(f"{model._meta.app_label}.view_{model._meta.model_name}", *more)[0]


@pytest.mark.parametrize(
    "model", [model for model in OURS if model is not User], ids=lambda model: model._meta.label_lower
)
def test_no_list_lets_staff_guess_what_only_viewers_of_users_see(model):
    """Try the search, look-ups through a person, and the order."""
    rows(1)
    person = UserFactory()
    User.objects.update(email="right@example.org", first_name="Right", last_login=timezone.now())
    Operation.objects.create(action="ban_user", user=person)
    create_invitation(by=person)
    client = viewer(model)
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")

    def found(query):
        answer = client.get(address, query)
        assert answer.status_code in (200, 302, 400), query
        return [row.pk for row in answer.context["cl"].result_list] if answer.status_code == 200 else answer.status_code

    assert found({"q": "right@"}) == found({"q": "wrong@"})
    everything = found({})
    for field in (one for one in model._meta.get_fields() if one.related_model is User):
        for column in ("email", "password", "first_name", "last_login"):
            for kind in ("", "__startswith", "__gte", "__isnull"):
                assert found({f"{field.name}__{column}{kind}": "r"}) == 400
    assert found({"o": "1"}) == found({"o": "-1"}) == everything


@pytest.mark.parametrize("name", ["accounts_user", "accounts_apitoken", "accounts_invitation"])
@pytest.mark.parametrize("lookup", ["password", "digest"])
@pytest.mark.parametrize("kind", ["", "__exact", "__startswith", "__gte", "__regex"])
def test_no_list_filters_by_a_secret(client, operator, name, lookup, kind):
    ApiTokenFactory()
    answer = client.get(reverse(f"admin:{name}_changelist"), {f"{lookup}{kind}": "a"})
    assert answer.status_code == 400 or answer["Location"].endswith("?e=1")


@pytest.mark.parametrize("lookup", ["username__regex", "username__iregex", "email__regex"])
def test_no_list_filters_by_an_expression(client, operator, lookup):
    answer = client.get(reverse("admin:accounts_user_changelist"), {lookup: "(.*)*x"})
    assert answer.status_code == 400


@pytest.mark.parametrize("name", ["jobs_job", "leaderboards_entry", "submissions_submission", "accounts_apitoken"])
def test_the_address_is_searched_for_staff_who_may_view_users(name):
    rows(1)
    User.objects.filter(is_staff=False).update(email="right@example.org")
    model = next(one for one in OURS if f"{one._meta.app_label}_{one._meta.model_name}" == name)
    numbers = []
    for client in (viewer(model), viewer(model, "accounts.view_user")):
        answer = client.get(reverse(f"admin:{name}_changelist"), {"q": "right@"})
        numbers.append(len(answer.context["cl"].result_list))
    assert (numbers[0], numbers[1] > 0) == (0, True)


def test_forms_complete_people_for_staff_who_may_view_users():
    person = UserFactory(email="right@example.org")
    query = {"app_label": "leaderboards", "model_name": "baseline", "field_name": "user", "term": "right@"}
    assert signed_in("leaderboards.change_leaderboard")[0].get("/admin/autocomplete/", query).status_code == 403
    answer = signed_in("accounts.view_user")[0].get("/admin/autocomplete/", query)
    assert answer.status_code == 403 or [one["id"] for one in answer.json()["results"]] == [str(person.pk)]
