"""Query strings that are made to break pages, the API or the console, or to cost much.

None is a 500, and none costs much more than the plain address.
"""

import pytest
from django.db import transaction
from django.urls import reverse

from accounts.tests.factories import UserFactory
from jobs.models import JobProgress
from jobs.tests.factories import JobFactory
from leaderboards.models import Leaderboard
from leaderboards.templatetags.shown import exactly, when
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from leaderboards.yaml_file import WrongFile, import_leaderboard
from tests.timing import seconds

pytestmark = pytest.mark.django_db
# What gunicorn takes of a request's first line.
LONGEST = 4000
LAST, FIRST = "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00%2B23:59"
NUMBERS = ["-1", "9" * 25, "9" * LONGEST, "1e999", "1" + "0" * 400, "nan", "0x1", "٣"]


def get(client, address):
    """Return the answer. A statement that the database refuses must not end the test's transaction."""
    with transaction.atomic():
        response = client.get(address)
        if response.streaming:
            assert list(response.streaming_content)
        transaction.set_rollback(True)
    return response


def answered(client, address, statuses):
    assert get(client, address).status_code in statuses, address


@pytest.fixture
def person(client):
    user = UserFactory()
    client.force_login(user)
    return user


BOARD = [
    "q=" + "%25_" * 70, "q=" + "a+" * 2000, "column=" + "&column=".join(map(str, range(90))), "metric=" + "a" * 3900,
    "as_of=9999-12-31", "as_of=0001-01-01", "as_of=2020-02-30", "after=1e308~9999999999999999~1", "after=nan~1~1",
    "before=1~1~999999999999999999", "after=1~253402300799999999~1", "metric__gte=1", "near=me&q=" + "a" * 150, "&" * LONGEST,
    "&".join(f"a{number}=1" for number in range(500)), *(f"min={number}" for number in NUMBERS),
    *(f"limit={number}" for number in NUMBERS), *(f"page={number}" for number in NUMBERS),
]  # fmt: skip


@pytest.mark.parametrize(
    "address",
    [
        "/leaderboards/bricks/",
        "/leaderboards/bricks/history/",
        "/leaderboards/bricks/export.csv",
        "/api/leaderboards/bricks/entries",
    ],
)
def test_no_address_of_a_board_breaks_it_or_costs_much_more(client, person, address):
    EntryFactory.create_batch(20, leaderboard=LeaderboardFactory(slug="bricks", visibility="public"))
    plain = seconds(get, client, address)
    for query in BOARD:
        assert seconds(answered, client, f"{address}?{query}", (200, 400), enough=10 * plain) < 10 * plain, query


@pytest.mark.parametrize("name", ["jobs", "submissions", "runs"])
def test_a_list_of_ones_own_refuses_a_moment_that_other_zones_do_not_have(client, person, name):
    job = JobFactory(user=person)
    for before in (
        f"{LAST}_{job.pk}",
        f"{FIRST}_{job.pk}",
        f"2020-01-01T00:00:00.1%2B99:99_{job.pk}",
        "x_" + "1" * 3900,
    ):
        assert get(client, f"{reverse(name)}?before={before}").status_code == 404
    assert get(client, f"{reverse(name)}?before=9999-12-31T23:59:59Z_{job.pk}").status_code == 200
    assert get(client, f"{reverse(name)}?leaderboard={'a' * 3900}").status_code == 200


@pytest.mark.parametrize(
    "query",
    [f"offset={number}" for number in NUMBERS]
    + [f"attempt={'9' * LONGEST}", f"style={'a' * LONGEST}", "offset=" + "9" * 15],
)
def test_no_place_in_a_log_breaks_it(client, person, query):
    address = reverse("job_log", args=[JobFactory(user=person).pk])
    assert get(client, f"{address}?{query}").status_code in (200, 404)


# --- The console ---------------------------------------------------------------------------------------------------
LISTS = [
    "accounts_user",
    "accounts_invitation",
    "jobs_job",
    "jobs_jobattempt",
    "leaderboards_entry",
    "submissions_submission",
]
CONSOLE = [
    "q=" + "a+" * 1990, "q=" + "%22" * 1300, "q=" + "%5C" * 1300, "q=" + "a" * 3900, "p=999999", "p=" + "9" * 3900, "p=-1",
    "all=", "_facets=1", "o=" + "1.-2." * 700, f"created_at__gte={LAST}", "created_at__year=99999999999",
    "created_at__year=" + "9" * 3900, "id__in=" + "1," * 1900, "user__username__regex=(a%2B)%2B%24", "created_at__range=1,2",
    "leaderboard=" + "9" * 3900, "leaderboard=9223372036854775808", "status__in=" + "a," * 1900,
]  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_no_search_or_filter_of_the_console_breaks_it_or_costs_much_more(admin_client, name):
    JobFactory()
    address = reverse(f"admin:{name}_changelist")
    plain = seconds(get, admin_client, address)
    for query in CONSOLE:
        hostile = f"{address}?{query}"
        assert seconds(answered, admin_client, hostile, (200, 302, 400), enough=10 * plain) < 10 * plain, query


def test_a_search_of_too_many_words_is_refused_in_words(admin_client):
    page = admin_client.get(reverse("admin:accounts_invitation_changelist"), {"q": "a " * 9})
    assert "at most 150 characters and 8 words" in page.content.decode()


# --- Pages of much ---------------------------------------------------------------------------------------------------
def test_a_comparison_of_the_largest_jobs_has_so_many_rows_and_curves(client, person):
    """Eight jobs with configs of 64 KB, as many metrics as a run may leave, and curves of 32 other names each."""
    jobs = [
        JobFactory(
            user=person,
            status="completed",
            config={f"{number}_{key}": key for key in range(4000)},
            metrics={f"m{number}_{key}": 0.5 for key in range(200)},
        )
        for number in range(8)
    ]
    for number, job in enumerate(jobs):
        points = [[step, 0.5, 0.1] for step in range(256)]
        curves = [{"name": f"c{number}_{key}", "points": points} for key in range(32)]
        JobProgress.objects.create(job=job, attempt=job.attempt, curves=curves)
    response = client.get("/compare/?" + "&".join(f"job={job.pk}" for job in jobs))
    table, page = response.context["table"], response.content.decode()
    assert (len(table.differing), len(table.same), len(table.metrics), len(table.charts)) == (200, 0, 200, 12)
    assert (table.more_charts, table.more_rows) == (244, 33_201)
    assert "33201 more rows are left out" in page and page.count("<td") < 4000


def test_a_job_and_its_submission_show_only_so_many_of_thousands(client, person):
    job = JobFactory(user=person, config={str(key): key for key in range(4000)})
    job.submission.manifest = [{"path": f"{number}.py", "bytes": 1} for number in range(2000)]
    job.submission.user = person
    job.submission.save()
    submission = reverse("submission", args=[job.submission_id])
    for address, told in ((job.get_absolute_url(), "3700 more are left out here"), (submission, "1700 more files")):
        page = client.get(address).content.decode()
        assert told in page and len(page) < 200_000


# --- Organizers' text and times ------------------------------------------------------------------------------------
FILE = "leadersboard: 1\nslug: bricks\ntitle: Bricks\nmetrics:\n- name: auc\n"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f"rules: {'a*' * 6000!r}", "rules: At most 5000 characters with a meaning in Markdown"),
        (f"description: {'a' * 70_000!r}", "description: At most 65536 characters, not 70000."),
        ("closes_at: 9999-12-31T23:59:59-09:00", "closes_at: The year must be between 2000 and 2999, not 9999."),
        ("opens_at: 0001-01-01T00:00:00+09:00", "opens_at: The year must be between 2000 and 2999, not 1."),
    ],
    ids=["marks", "length", "the last year", "the first year"],
)
def test_a_boards_file_is_refused_with_field_rule_and_value(line, problem):
    with pytest.raises(WrongFile) as refused:
        import_leaderboard(FILE + line)
    assert any(found.startswith(problem) for found in refused.value.problems), refused.value.problems
    assert not any("Not '" in found for found in refused.value.problems), "a text that is counted is not quoted"


def test_a_board_that_closes_at_the_end_of_time_is_shown_everywhere(client):
    """Such a board can exist from before its year was bounded."""
    board = LeaderboardFactory(slug="bricks", visibility="public")
    Leaderboard.objects.filter(pk=board.pk).update(closes_at="9999-12-31T23:59:59Z")
    client.cookies["time_zone"] = "Asia/Tokyo"
    assert client.get("/leaderboards/bricks/").status_code == 200
    board.refresh_from_db()
    assert "9999-12-31 23:59:59" in exactly(board.closes_at) and when(board.closes_at)
