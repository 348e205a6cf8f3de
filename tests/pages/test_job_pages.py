"""What a run says and leaves, on its page; searching its log; one's submissions; how heavy pages are."""

import json
from datetime import timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.execution.told import Told, kept
from jobs.models import Job, JobAttempt, JobProgress, TrackingOutbox
from jobs.queries import progress_of, seconds_left
from jobs.templatetags.job_words import attempt_why, percent
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    user = UserFactory()
    client.force_login(user)
    return user


def stored(content: bytes) -> str:
    return storages["artifacts"].save(f"pages/{uuid4()}", ContentFile(content))


def left(path: str, content: bytes) -> dict[str, object]:
    return {"path": path, "bytes": len(content), "sha256": "", "name": stored(content)}


def reported(job: Job, **fields) -> JobProgress:
    curves = [{"name": "train/loss", "points": [[0, 1.0, 0.1], [1, 0.5, 0.6]]}]
    values = {"fraction": 0.25, "message": "epoch <1>", "curves": curves, "fraction_at": timezone.now(), **fields}
    return JobProgress.objects.create(job=job, attempt=values.pop("attempt", job.attempt), **values)


def text_of(client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


# --- Progress ------------------------------------------------------------------------------------------------------
def test_a_running_job_shows_how_far_it_is_and_its_curves(client, owner):
    job = JobFactory(user=owner, status="running", started_at=timezone.now() - timedelta(seconds=100))
    reported(job, ignored=3)
    for url in (job.get_absolute_url(), f"{job.get_absolute_url()}state/"):
        html = text_of(client, url)
        assert '<progress max="1" value="0.25"' in html and "25%" in html and "epoch &lt;1&gt;" in html
        assert "about 5 min" in html or "about 4 min 5" in html
        assert 'aria-label="train/loss: 1.0000 at 0, 0.5000 at 1"' in html
        assert "3 reported values broke a rule" in html
    assert "25%" in text_of(client, "/jobs/")


def test_curves_stay_after_the_end_and_a_failed_run_says_how_far_it_had_come(client, owner):
    done = JobFactory(user=owner, status="completed")
    failed = JobFactory(user=owner, status="failed")
    reported(done, fraction=1)
    reported(failed)
    assert "<progress" not in (html := text_of(client, done.get_absolute_url())) and "train/loss" in html
    assert "That far it had come." in text_of(client, failed.get_absolute_url())


def test_what_an_earlier_attempt_said_is_not_shown(client, owner):
    job = JobFactory(user=owner, status="running", attempt=2)
    reported(job, attempt=1)
    html = text_of(client, job.get_absolute_url())
    assert "<progress" not in html and "train/loss" not in html
    assert progress_of(job) is None
    assert text_of_stream(client, f"{job.get_absolute_url()}curves.csv") == "name,step,value,seconds\r\n"


def text_of_stream(client, url: str) -> str:
    return b"".join(client.get(url).streaming_content).decode()


def test_curves_can_be_saved_as_numbers(client, owner):
    job = JobFactory(user=owner, status="completed")
    curves = [{"name": name, "points": [[0, 1.0, 0.1], [1, 0.5, 0.6]]} for name in ("train/loss", "-1-1")]
    reported(job, curves=curves)
    lines = [f"{name},{point}" for name in ("train/loss", "'-1-1") for point in ("0,1.0,0.1", "1,0.5,0.6")]
    rows = ["name,step,value,seconds", *lines, ""]
    assert text_of_stream(client, f"{job.get_absolute_url()}curves.csv") == "\r\n".join(rows)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_notes_are_shown_to_the_owner_and_to_operators(client, owner, status):
    told = [Told("%(path)s was left out: %(why)s.", path=f"<b>{n}.png", why=Told("too large")) for n in range(5)]
    job = JobFactory(user=owner, status=status, notes=[kept(one) for one in told])
    page = text_of(client, job.get_absolute_url())
    assert "&lt;b&gt;0.png was left out: too large." in page and "<b>0" not in page and "2 more notes" in page
    ApiTokenFactory(user=owner, secret="lb_notes")
    headers = {"accept-language": "ja", "authorization": "Bearer lb_notes"}
    japanese = client.get(f"/api/jobs/{job.pk}", headers=headers).json()["notes"]
    assert japanese[4] == "<b>4.png は保存されませんでした：大きすぎます。"
    assert 'id="notes"' not in text_of(client, JobFactory(user=owner, status=status).get_absolute_url())
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert "&lt;b&gt;4.png was left out" in text_of(client, f"/admin/jobs/job/{job.pk}/change/")


@pytest.mark.parametrize(
    ("fraction", "after", "since", "left"),
    [
        (0.25, 100, 0, 300),
        (0.5, 10, 4, 6),
        (0.5, 10, 60, 0),
        (0.5, 1, 0, None),
        (0.0, 100, 0, None),
        (1.0, 100, 0, None),
    ],
)
def test_the_time_left_follows_from_the_pace_so_far(fraction, after, since, left, monkeypatch):
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    job = JobFactory(status="running", started_at=now - timedelta(seconds=after + since))
    told = seconds_left(job, reported(job, fraction=fraction, fraction_at=now - timedelta(seconds=since)))
    assert told is None if left is None else told == pytest.approx(left)


def test_a_job_that_ended_has_no_time_left():
    job = JobFactory(status="failed")
    assert seconds_left(job, reported(job, fraction_at=job.started_at + timedelta(seconds=5))) is None


@pytest.mark.parametrize(("fraction", "shown"), [(0, "0%"), (0.29, "29%"), (0.999, "99%"), (1, "100%")])
def test_percent_promises_no_more_than_was_done(fraction, shown):
    assert percent(fraction) == shown


# --- The timeline --------------------------------------------------------------------------------------------------
def test_a_completed_job_waits_for_mlflow_and_then_rests(client, owner):
    job = JobFactory(user=owner, status="completed")
    outbox = TrackingOutbox.objects.create(job=job)
    state = f"{job.get_absolute_url()}state/"
    html = text_of(client, job.get_absolute_url())
    assert f'hx-get="{state}?ended" hx-trigger="every 10s"' in html and "on its way" in html
    assert "job-results" not in text_of(client, f"{state}?ended")
    TrackingOutbox.objects.update(tries=2)
    assert "MLflow is away" in text_of(client, state)
    TrackingOutbox.objects.update(refusals=1)
    assert "MLflow does not take it" in text_of(client, state)
    outbox.delete()
    Job.objects.update(run_id="abcdef1234567890", experiment_id="1")
    html = text_of(client, f"{state}?ended")
    assert "hx-trigger" not in html and "<code>abcdef12</code>" in html and 'id="open-mlflow"' in html


def test_a_job_that_failed_is_not_recorded(client, owner):
    assert "Not recorded" in text_of(client, JobFactory(user=owner, status="failed").get_absolute_url())


@pytest.mark.parametrize(
    ("outcome", "detail", "why"),
    [
        ("lost", "No heartbeat.", "Its worker fell silent until its lease was over; the job went to another."),
        ("released", "The worker was stopped.", "The worker gave it back: The worker was stopped."),
        ("cancelled", "", "Somebody asked to stop it."),
        ("failed", "timeout: 30 minutes", "The run took longer than its class allows. 30 minutes"),
        ("failed", "odd: thing", "odd: thing"),
        ("completed", "", ""),
        ("running", "", ""),
    ],
)
def test_each_attempt_says_why_it_ended(client, owner, outcome, detail, why):
    job = JobFactory(user=owner, status="running")
    ended = None if outcome == "running" else timezone.now()
    attempt = JobAttemptFactory(job=job, outcome=outcome, detail=detail, ended_at=ended)
    assert attempt_why(attempt) == why
    html = text_of(client, job.get_absolute_url())
    assert why in html and f'<span class="chip {outcome}">' in html
    assert set(JobAttempt.Outcome.values) >= {outcome}


# --- The log -------------------------------------------------------------------------------------------------------
def test_the_log_is_searched_without_javascript(client, owner):
    lines = ["start", "\x1b[31mError\x1b[0m: <disk> ERROR", *["filler"] * 20_000, "a co\x1b[1mlour\x1b[0m between"]
    job = JobFactory(user=owner, status="completed", log_name=stored("\n".join(lines).encode()))
    url = job.get_absolute_url()
    html = text_of(client, f"{url}?q=error")
    assert '<li value="2"><mark>Error</mark>: &lt;disk&gt; <mark>ERROR</mark></li>' in html
    assert "Found in 1 line." in html and 'id="log"' not in html and 'value="error"' in html
    found = client.get(f"{url}?q=error").context["found"]
    assert (found.line_count, found.match_count) == (1, 2)
    assert '<li value="20003">a <mark>colour</mark> between</li>' in text_of(client, f"{url}?q=colour")
    assert "The first 200 are shown." in (many := text_of(client, f"{url}?q=filler")) and many.count("<mark>") == 200
    assert "Nothing in the log says that." in text_of(client, f"{url}?q=nowhere")
    assert 'id="log"' in text_of(client, f"{url}?q=%20")


@pytest.mark.parametrize("wanted", ["(", ".*", "\\", "<script>", "[a-", "日本", "x" * 5000, "&amp;"])
def test_any_search_is_taken_as_it_is(client, owner, wanted):
    job = JobFactory(user=owner, status="running")
    LogChunkFactory(job=job, content=b"( .* \\ <script> [a- \xe6\x97\xa5\xe6\x9c\xac &amp;\n")
    html = text_of(client, f"{job.get_absolute_url()}?q={quote(wanted)}")
    assert html.count("<mark>") == (0 if wanted[0] == "x" else 1) and "<script>" not in html.split("log-card")[1]


def test_a_find_in_a_long_line_is_shown_with_what_is_around_it(client, owner):
    job = JobFactory(user=owner, status="running")
    LogChunkFactory(job=job, content=b"a" * 5000 + b"needle" + b"b" * 5000 + b"\n")
    html = text_of(client, f"{job.get_absolute_url()}?q=needle")
    assert "…" + "a" * 200 + "<mark>needle</mark>" + "b" * 794 + "…" in html


def test_a_log_that_cannot_be_read_leaves_the_page_standing(client, owner):
    job = JobFactory(user=owner, status="completed", log_name="pages/nowhere")
    for url in (job.get_absolute_url(), f"{job.get_absolute_url()}?q=x"):
        assert "cannot be read" in text_of(client, url)


def test_the_log_is_saved_whole(client, owner):
    job = JobFactory(user=owner, status="completed", log_name=stored(b"all\n"))
    response = client.get(f"{job.get_absolute_url()}log.txt?download")
    assert response["Content-Disposition"] == f'attachment; filename="{job.pk}.log"'
    assert b"".join(response.streaming_content) == b"all\n"


# --- Files ---------------------------------------------------------------------------------------------------------
def test_a_picture_is_shown_large_with_its_neighbours(client, owner):
    names = ["a.png", "note.txt", "b b.png", "c.gif"]
    job = JobFactory(user=owner, status="completed", artifacts=[left(name, b"x") for name in names])
    html = text_of(client, f"{job.get_absolute_url()}view/b%20b.png")
    assert 'rel="prev" href="' + f"{job.get_absolute_url()}view/a.png" in html
    assert 'rel="next" href="' + f"{job.get_absolute_url()}view/c.gif" in html
    assert "2 / 3" in html
    assert "only be downloaded" in text_of(client, f"{job.get_absolute_url()}view/note.txt")
    assert client.get(f"{job.get_absolute_url()}view/nowhere.png").status_code == 404


def test_numbers_in_a_file_are_drawn(client, owner):
    table = left("log/history.csv", b"epoch,loss\n0,1\n1,0.5\n")
    words = left("words.json", json.dumps({"a": "<b>"}).encode())
    job = JobFactory(user=owner, status="completed", artifacts=[table, words])
    url = f"{job.get_absolute_url()}view/log/history.csv"
    assert f'hx-get="{url}"' in text_of(client, job.get_absolute_url())
    assert 'aria-label="loss: 1.0000 at 0, 0.5000 at 1"' in text_of(client, url)
    part = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div class="curves">') and "<html" not in part
    assert "no series of numbers" in text_of(client, f"{job.get_absolute_url()}view/words.json")


def test_a_file_that_retention_took_is_not_found_and_one_out_of_reach_is_503(client, owner, monkeypatch):
    item = {"path": "a.csv", "bytes": 5, "sha256": "", "name": "pages/gone"}
    job = JobFactory(user=owner, status="completed", artifacts=[item])
    url = f"{job.get_absolute_url()}view/a.csv"
    assert client.get(url).status_code == 404

    def away(*_arguments):
        raise OSError("away")

    monkeypatch.setattr(storages["artifacts"], "open", away)
    assert client.get(url).status_code == 503
    assert client.get(f"{job.get_absolute_url()}artifacts/a.csv").status_code == 503


def test_thousands_of_files_are_listed_page_by_page(client, owner):
    items = [{"path": f"f{number}.txt", "bytes": 1, "sha256": "", "name": "x"} for number in range(250)]
    job = JobFactory(user=owner, status="completed", artifacts=items)
    assert "210 more files" in text_of(client, job.get_absolute_url())
    url = f"{job.get_absolute_url()}artifacts/"
    assert [len(client.get(f"{url}?page={number}").context["files"]) for number in (1, 2, 3)] == [100, 100, 50]
    assert [client.get(f"{url}?page={text}").status_code for text in ("0", "4", "x", "-1", "9" * 9)] == [404] * 5
    assert "left no files" in text_of(client, f"{JobFactory(user=owner).get_absolute_url()}artifacts/")


# --- My submissions ------------------------------------------------------------------------------------------------
def test_my_submissions_are_mine_newest_first_with_their_jobs(client, owner):
    board = LeaderboardFactory(slug="bricks")
    old = SubmissionFactory(user=owner)
    new = SubmissionFactory(user=owner, leaderboard=board)
    jobs = [
        JobFactory(user=owner, submission=new, leaderboard=board, status=status) for status in ["failed", "running"] * 4
    ]
    JobFactory()
    listed = client.get("/submissions/").context["submissions"]
    assert [one.pk for one in listed] == [new.pk, old.pk]
    assert ([one.pk for one in listed[0].runs], listed[0].run_count) == ([job.pk for job in reversed(jobs[3:])], 8)
    html = text_of(client, "/submissions/")
    assert "of 8" in html and "Not run yet" in html and "every 5s" in html
    assert [one.pk for one in client.get("/submissions/?status=failed").context["submissions"]] == [new.pk]
    assert [one.pk for one in client.get("/submissions/?leaderboard=bricks").context["submissions"]] == [new.pk]
    assert "No such submission" in text_of(client, "/submissions/?status=cancelled")
    assert "every 5s" not in text_of(client, "/submissions/?status=cancelled")
    for query in ("status=x", "before=x"):
        assert client.get(f"/submissions/?{query}").status_code == 404
    part = client.get("/submissions/", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="job-list"')


def test_pages_of_submissions_follow_each_other(client, owner):
    made = {SubmissionFactory(user=owner).pk for _ in range(35)}
    first = client.get("/submissions/")
    second = client.get(f"/submissions/?{first.context['older']}")
    pages = [[one.pk for one in page.context["submissions"]] for page in (first, second)]
    assert ([len(page) for page in pages], {*pages[0], *pages[1]}) == ([30, 5], made)
    assert second.context["older"] == ""


@pytest.mark.parametrize("count", [1, 30])
def test_my_submissions_cost_the_same_number_of_queries(client, owner, django_assert_num_queries, count):
    for _ in range(count):
        JobFactory(user=owner, status="completed")
    with django_assert_num_queries(5):  # session, user, submissions, their jobs, boards to filter by
        client.get("/submissions/")


# --- Queries and weight --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 30])
def test_a_jobs_page_costs_the_same_with_much_on_it(client, owner, django_assert_num_queries, count):
    job = JobFactory(
        user=owner, status="completed", artifacts=[left(f"f{number}.csv", b"1\n2\n") for number in range(count)]
    )
    for number in range(count):
        JobAttemptFactory(job=job, number=number + 1, outcome="lost", ended_at=timezone.now())
    reported(job, curves=[{"name": f"c{number}", "points": [[0, 1.0, 0]]} for number in range(count)])
    # Session, user, job, metrics of its board, attempts, its reruns, its log, the board's baselines, its person's entry, whether the
    # board is open, what the latest attempt got; the quota of jobs.
    with django_assert_num_queries(12):
        client.get(job.get_absolute_url())
    with django_assert_num_queries(10):
        client.get(f"{job.get_absolute_url()}state/")


def test_pages_stay_light(client, owner):
    """150 kB before any compression, with as much on a page as one job may bring."""
    names = [f"metric_{number}" for number in range(200)]
    job = JobFactory(
        user=owner, status="completed", metrics=dict.fromkeys(names, 0.123456789), score=0.5,
        params={f"param_{number}": "x" * 100 for number in range(200)},
        artifacts=[{"path": f"pictures/{number}.png", "bytes": 1, "sha256": "", "name": "x"} for number in range(5000)],
        log_name=stored(b"\x1b[31m<line>\x1b[0m of the log & more\n" * 30_000),
    )  # fmt: skip
    points = [[step, 1 / (step + 1), step / 10] for step in range(256)]
    reported(job, curves=[{"name": f"curve/{number}", "points": points} for number in range(32)])
    for _ in range(35):
        JobFactory(user=owner, leaderboard=job.leaderboard, status="failed")
    start = job.get_absolute_url()
    sizes = {
        url: len(client.get(url).content)
        for url in (start, f"{start}state/", f"{start}?q=line", f"{start}artifacts/", "/jobs/", "/submissions/")
    }
    assert {url: size for url, size in sizes.items() if size > 150_000} == {}


@pytest.mark.parametrize(("isolation", "is_marked"), [("unsafe-local", True), ("bubblewrap", False), ("", False)])
def test_a_result_of_a_run_without_a_sandbox_says_so(client, owner, isolation, is_marked):
    job = JobFactory(user=owner, status="completed", isolation=isolation)
    for path in ("", "state/"):
        page = client.get(f"{job.get_absolute_url()}{path}")
        assert page.status_code == 200
        assert (b'id="unsafe"' in page.content) == is_marked
