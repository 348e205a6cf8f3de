"""The pages of jobs, for their owner, others and visitors; what moves by itself; what stops."""

import re
from datetime import timedelta
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from accounts.models import User
from accounts.tests.factories import UserFactory
from jobs.log_page import PART_BYTES, coloured, whole
from jobs.models import ErrorCode, Job, Status
from jobs.templatetags.job_words import what_to_do
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def owner(client):
    user = UserFactory()
    client.force_login(user)
    return user


def stored(content: bytes) -> str:
    return storages["artifacts"].save(f"pages/{uuid4()}", ContentFile(content))


def pages_of(job: Job) -> list[str]:
    start = job.get_absolute_url()
    return [
        start,
        f"{start}state/",
        f"{start}log/",
        f"{start}log.txt",
        f"{start}artifacts/a.png",
        f"/compare/?job={job.pk}",
    ]


def test_another_persons_job_is_not_there(client):
    job = JobFactory(status="completed", artifacts=[{"path": "a.png", "bytes": 8, "sha256": "", "name": stored(PNG)}])
    client.force_login(UserFactory())
    assert [client.get(url).status_code for url in pages_of(job)] == [404] * 6
    assert client.post(f"{job.get_absolute_url()}cancel/").status_code == 404
    assert client.post(f"{job.get_absolute_url()}again/").status_code == 404
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert [client.get(url).status_code for url in pages_of(job)] == [200] * 6


def test_a_visitor_is_asked_to_sign_in(client):
    job = JobFactory()
    for url in [*pages_of(job), "/jobs/", "/submit/", "/account/", job.submission.get_absolute_url()]:
        response = client.get(url)
        assert (response.status_code, response["Location"]) == (302, f"/login/?next={quote(url, safe='/')}")


@pytest.mark.parametrize("status", Status.values)
def test_a_jobs_page_moves_only_until_the_end(client, owner, status):
    job = JobFactory(user=owner, status=status)
    is_final = status in ("completed", "failed", "cancelled")
    page = client.get(job.get_absolute_url()).content.decode()
    state = client.get(f"{job.get_absolute_url()}state/").content.decode()
    for html in (page, state):
        assert ('hx-trigger="every 2s"' in html) == (not is_final)
        assert f'class="chip {status}"' in html
    assert ('id="log-tail"' in page) == (not is_final)
    assert ('hx-swap-oob="true"' in state, 'hx-swap-oob="true"' in page) == (True, False)


@pytest.mark.parametrize("code", [code for code in ErrorCode.values if code != "cancelled"])
def test_each_error_says_whose_fault_it_is_and_what_to_do(client, owner, code):
    job = JobFactory(user=owner, status="failed", error_code=code, error_message="<i>because</i>")
    page = client.get(job.get_absolute_url()).content.decode()
    assert ("your code to fix" in page, "platform’s fault" in page) == (
        not job.is_platform_fault,
        job.is_platform_fault,
    )
    assert what_to_do(job) and "&lt;i&gt;because" in page


def test_a_waiting_job_says_why(client, owner):
    page = client.get(JobFactory(user=owner).get_absolute_url()).content.decode()
    assert "No worker for the class small" in page and "position 1" in page


def test_cancel_and_run_again(client, owner):
    job = JobFactory(user=owner)
    url = job.get_absolute_url()
    question = client.get(f"{url}cancel/").content.decode()
    assert 'id="confirm-cancel"' in question and Job.objects.get(pk=job.pk).status == "pending"
    assert client.post(f"{url}cancel/")["Location"] == url
    job.refresh_from_db()
    assert (job.status, job.costs_quota) == ("cancelled", False)
    assert "It did not cost you quota." in client.get(url).content.decode()
    assert client.get(f"{url}cancel/")["Location"] == url
    assert "has already ended" in client.post(f"{url}cancel/", follow=True).content.decode()

    again = client.post(f"{url}again/", {"key": "k"})["Location"]
    assert client.post(f"{url}again/", {"key": "k"})["Location"] == again != url
    new = Job.objects.get(idempotency_key="k")
    assert (new.submission_id, new.status, new.rerun_of) == (job.submission_id, "pending", None)


def test_an_operator_runs_anothers_job_again_as_its_owners(client):
    job = JobFactory(status="failed")
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    client.post(f"{job.get_absolute_url()}again/")
    assert Job.objects.get(rerun_of=job).user == job.user


def test_run_again_beyond_the_quota_is_refused_in_words(client, owner):
    jobs = [JobFactory(user=owner) for _ in range(3)]
    done = JobFactory(user=owner, status="completed")
    page = client.post(f"{done.get_absolute_url()}again/", follow=True)
    assert "at most 3 at once" in page.content.decode()
    assert Job.objects.count() == len(jobs) + 1


def test_buttons_that_run_again_are_inactive_while_no_run_is_left_in_this_hour(client, owner):
    User.objects.filter(pk=owner.pk).update(submissions_per_hour=2)
    done = JobFactory(user=owner, status="completed", trial=True)
    pages = (done.get_absolute_url(), done.submission.get_absolute_url())
    assert [client.get(page).content.decode().count("data-blocked") for page in pages] == [0, 0]
    JobFactory(user=owner, status="completed")
    shown = [client.get(page).content.decode() for page in pages]
    assert [page.count(' disabled data-blocked="') for page in shown] == [2, 1]
    assert [len(re.findall(r"You have no run left in this hour. .* UTC</time>", page)) for page in shown] == [1, 1]
    # An operator's rerun of another person's job costs no quota.
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert "data-blocked" not in client.get(pages[0]).content.decode()


# --- The log -------------------------------------------------------------------------------------------------------
def test_a_running_log_is_followed_from_where_it_was(client, owner):
    job = JobFactory(user=owner, status="running")
    LogChunkFactory(job=job, content=b"\x1b[31mred <script>\n")
    page = client.get(job.get_absolute_url()).content.decode()
    assert '<span class="ansi-red">red &lt;script&gt;\n</span>' in page
    assert "log/?offset=18&amp;attempt=1&amp;style=ansi-red" in page
    LogChunkFactory(job=job, offset=18, content=b"more\x1b[0m\n")
    part = client.get(f"{job.get_absolute_url()}log/?offset=18&attempt=1&style=ansi-red")
    assert part.content.decode().startswith('<span class="ansi-red">more</span>\n<span id="log-tail"')
    assert "HX-Retarget" not in part


def test_a_new_attempts_log_begins_again(client, owner):
    job = JobFactory(user=owner, status="running", attempt=2)
    LogChunkFactory(job=job, content=b"second try\n")
    part = client.get(f"{job.get_absolute_url()}log/?offset=500&attempt=1")
    assert (part["HX-Retarget"], part["HX-Reswap"]) == ("#log", "innerHTML")
    assert "second try" in part.content.decode()


def test_a_finished_log_is_read_to_its_end_in_parts_and_then_asked_for_no_more(client, owner):
    lines = b"".join(b"line %d\n" % number for number in range(20_000))
    job = JobFactory(user=owner, status="completed", log_name=stored(lines))
    url, seen, offset = job.get_absolute_url(), "", 0
    while True:
        html = client.get(f"{url}log/?offset={offset}&attempt=1").content.decode()
        seen += html.partition('<span id="log-tail"')[0]
        if "log-tail" not in html:
            break
        offset = int(html.partition("offset=")[2].partition("&")[0])
    assert seen.strip() == lines.decode().strip()
    text = client.get(f"{url}log.txt")
    assert (b"".join(text.streaming_content), text["Content-Type"]) == (lines, "text/plain; charset=utf-8")


def test_a_log_that_is_gone_is_said_to_be(client, owner):
    job = JobFactory(user=owner, status="completed", log_name="pages/nowhere")
    assert "cannot be read" in client.get(job.get_absolute_url()).content.decode()


@pytest.mark.parametrize("offset", ["-1", "x", "9" * 20, "1e3"])
def test_a_log_offset_that_is_none_is_404(client, owner, offset):
    assert client.get(f"{JobFactory(user=owner).get_absolute_url()}log/", {"offset": offset}).status_code == 404


def test_a_style_from_outside_cannot_leave_its_attribute(client, owner):
    job = JobFactory(user=owner, status="running")
    LogChunkFactory(job=job, content=b"x\n")
    evil = quote('"><script>')
    assert "<script>" not in client.get(f"{job.get_absolute_url()}log/?attempt=1&style={evil}").content.decode()


def test_colours_become_classes():
    assert coloured("a\x1b[1;31mb\x1b[39mc\x1b[0md") == (
        'a<span class="ansi-bold ansi-red">b</span><span class="ansi-bold">c</span>d',
        "",
    )
    assert coloured("\x1b[38;5;196mx\x1b[48;2;1;2;3my")[0] == "xy"
    assert coloured("\x1b]0;title\x07<&")[0] == "]0;title\x07&lt;&amp;"


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ("画像".encode(), "画像".encode()),
        ("画像".encode()[:-1], "画".encode()),
        (b"ok\x1b[3", b"ok"),
        (b"ok\x1b", b"ok"),
        (b"a\n" + b"b" * (PART_BYTES - 2), b"a\n"),
    ],
    ids=["nothing torn", "a character", "a colour", "an escape", "a line"],
)
def test_a_part_ends_where_nothing_is_torn(part, kept):
    assert whole(part, is_last=False) == kept
    assert whole(part, is_last=True) == part


# --- Artifacts -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "content_type", "disposition"),
    [
        ("maps/a.PNG", "image/png", "inline"),
        ("a.svg", "application/octet-stream", "attachment"),
        ("a.html", "application/octet-stream", "attachment"),
        ("画像 1.csv", "application/octet-stream", "attachment"),
    ],
)
def test_pictures_are_shown_and_all_else_is_saved(client, owner, path, content_type, disposition):
    item = {"path": path, "bytes": 8, "sha256": "", "name": stored(PNG)}
    job = JobFactory(user=owner, status="completed", artifacts=[item])
    response = client.get(f"{job.get_absolute_url()}artifacts/{quote(path)}")
    assert b"".join(response.streaming_content) == PNG
    assert response["Content-Type"] == content_type
    assert response["Content-Disposition"].startswith(disposition)
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response["X-Content-Type-Options"] == "nosniff"
    page = client.get(job.get_absolute_url()).content.decode()
    assert ("<img " in page) == (disposition == "inline")


def test_only_what_the_run_left_can_be_fetched(client, owner):
    job = JobFactory(
        user=owner, status="completed", artifacts=[{"path": "a.txt", "bytes": 1, "sha256": "", "name": "gone"}]
    )
    for path in ("a.txt", "b.txt", "../../etc/passwd"):
        assert client.get(f"{job.get_absolute_url()}artifacts/{path}").status_code == 404


# --- My jobs -------------------------------------------------------------------------------------------------------
def test_my_jobs_are_mine_newest_first(client, owner):
    now = timezone.now()
    old = JobFactory(user=owner, status="completed", created_at=now - timedelta(hours=1))
    new = JobFactory(user=owner, status="failed", created_at=now)
    JobFactory()
    assert client.get("/jobs/").context["jobs"] == [new, old]
    assert client.get("/jobs/?status=completed").context["jobs"] == [old]
    assert client.get(f"/jobs/?leaderboard={new.leaderboard.slug}").context["jobs"] == [new]
    assert client.get("/jobs/?status=nonsense").status_code == 404


def test_the_list_refreshes_only_while_something_moves(client, owner):
    done = JobFactory(user=owner, status="completed")
    assert "every 5s" not in client.get("/jobs/").content.decode()
    JobFactory(user=owner)
    assert "every 5s" in client.get("/jobs/").content.decode()
    part = client.get("/jobs/", {"job": str(done.pk)}, headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="job-list"') and part.count(" checked") == 1 and f"job={done.pk}" not in part


def test_pages_of_jobs_follow_each_other_without_gap_or_double(client, owner):
    moment = timezone.now()
    board = LeaderboardFactory()
    made = {JobFactory(user=owner, leaderboard=board, status="completed", created_at=moment).pk for _ in range(65)}
    seen, url = [], "/jobs/?status=completed"
    while url:
        response = client.get(url)
        seen += [job.pk for job in response.context["jobs"]]
        url = response.context["older"] and f"/jobs/?{response.context['older']}"
    assert (len(seen), set(seen)) == (65, made)


@pytest.mark.parametrize(
    "cursor", ["x", "2026-01-01_x", f"2026-13-01T00:00:00Z_{UUID(int=7)}", f"2026-01-01T00:00:00_{UUID(int=7)}"]
)
def test_a_cursor_that_is_none_is_404(client, owner, cursor):
    assert client.get("/jobs/", {"before": cursor}).status_code == 404


@pytest.mark.parametrize("count", [1, 30])
def test_the_lists_cost_the_same_number_of_queries(client, owner, django_assert_num_queries, count):
    User.objects.filter(pk=owner.pk).update(submissions_per_hour=100)
    job = None
    for _ in range(count):
        job = JobFactory(user=owner, status="completed")
    # Session, user, jobs, boards to filter by.
    with django_assert_num_queries(4):
        client.get("/jobs/")
    # Session, user, job, attempts, metrics of its board, its reruns, its log, the board's baselines, its person's entry, whether
    # the board is open, what the latest attempt got; the quota of jobs.
    JobAttemptFactory(job=job, outcome="completed", ended_at=timezone.now())
    with django_assert_num_queries(12):
        client.get(job.get_absolute_url())


# --- Compare -------------------------------------------------------------------------------------------------------
def test_compare_shows_what_differs(client, owner):
    board = LeaderboardFactory()
    one = JobFactory(user=owner, leaderboard=board, status="completed", score=0.75, params={"a": 1, "b": [1]})
    two = JobFactory(user=owner, leaderboard=board, status="completed", score=0.5, params={"a": 2, "b": [1]})
    table = client.get("/compare/", {"job": [str(one.pk), str(two.pk)]}).context["table"]
    assert [(row.name, [cell.value for cell in row.cells]) for row in table.differing] == [("a", [1, 2])]
    assert [row.name for row in table.same] == ["b", "resource_class"]
    auc = table.metrics[0]
    assert (auc.name, [cell.is_best for cell in auc.cells]) == ("Image AUROC", [True, False])
    assert [cell.difference for cell in auc.cells] == [None, -0.25]


def test_compare_with_a_foreign_job_is_404_and_with_one_asks_for_more(client, owner):
    mine = JobFactory(user=owner)
    assert client.get("/compare/", {"job": [str(mine.pk), str(JobFactory().pk)]}).status_code == 404
    assert client.get("/compare/?job=x").status_code == 404
    assert "Choose two jobs" in client.get("/compare/", {"job": str(mine.pk)}).content.decode()


@pytest.mark.parametrize("count", [2, 8])
def test_compare_costs_the_same_number_of_queries(client, owner, django_assert_num_queries, count):
    jobs = [str(JobFactory(user=owner, status="completed").pk) for _ in range(count)]
    with django_assert_num_queries(4):  # session, user, jobs, metrics
        client.get("/compare/", {"job": jobs})
