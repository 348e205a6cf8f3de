"""Sending code in by the page: what it starts, what it refuses, and that a double click starts one job."""

import io
import re
import tarfile
import threading
import time
import zipfile
from contextlib import ExitStack, closing

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from accounts.tests.factories import UserFactory
from jobs import views
from jobs.models import Job
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.views import quota_used
from leaderboards.models import Leaderboard, Pause
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    user = UserFactory()
    client.force_login(user)
    return user


@pytest.fixture
def send(client, owner):
    """Post the form; a keyword changes a field, `files` is name: content."""
    board = LeaderboardFactory(slug="bricks")

    def post(files=None, **changed):
        files = {"main.py": b"print(1)", "config.yaml": b"a: 1\n"} if files is None else files
        data = {
            "leaderboard": board.slug,
            "files": [SimpleUploadedFile(name, content) for name, content in files.items()],
            "entrypoint": "main.py",
            "config_file": "config.yaml",
            "resource_class": "small",
            "config": "",
            "key": "once",
            **changed,
        }
        return client.post("/submit/", data)

    return post


def test_the_checkbox_asks_for_a_writable_code_folder(client, owner, send):
    send()
    assert not Submission.objects.get().has_writable_code
    assert "writable copy" not in client.get(Job.objects.get().get_absolute_url()).content.decode()
    send(writable_code="on", key="twice")
    job = Job.objects.exclude(idempotency_key="once").get()
    assert job.submission.has_writable_code
    for page in (job, job.submission):
        assert "writable copy" in client.get(page.get_absolute_url()).content.decode()


def test_files_become_a_submission_and_its_job(client, owner, send):
    response = send(config="epochs: 5\nname: x")
    job = Job.objects.get()
    assert (response.status_code, response["Location"]) == (302, job.get_absolute_url())
    assert (job.user, job.config, job.resource_class) == (owner, {"epochs": 5, "name": "x"}, "small")
    assert sorted(file["path"] for file in job.submission.manifest) == ["config.yaml", "main.py"]
    page = client.get(job.submission.get_absolute_url()).content.decode()
    assert "main.py" in page and job.get_absolute_url() in page


def test_an_archive_becomes_a_submission(owner, send):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in ("main.py", "config.yaml"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    send({"code.tar.gz": content.getvalue()})
    assert Submission.objects.get().kind == "tar.gz"


def test_a_form_sent_twice_starts_one_job(send):
    assert send()["Location"] == send()["Location"]
    assert (Submission.objects.count(), Job.objects.count()) == (1, 1)


@pytest.fixture
def hold(owner):
    """Hold one of the person's locks, as another post of theirs would."""
    with ExitStack() as stack:

        def hold(name):
            other = stack.enter_context(closing(connection.get_new_connection(connection.get_connection_params())))
            other.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [owner.pk, name])
            return other

        yield hold


def test_a_form_that_is_still_being_stored_is_not_waited_for_without_end(send, hold, monkeypatch):
    monkeypatch.setattr(views, "LONGEST_WAIT_SECONDS", 0.3)
    hold("once")
    assert (send().status_code, Job.objects.count()) == (409, 0)
    assert (send(key="other").status_code, Job.objects.count()) == (302, 1)


def test_one_post_of_a_person_waits_at_a_time(send, hold):
    hold("once")
    hold("waiting for another post")
    began = time.monotonic()
    assert send().status_code == 409
    assert time.monotonic() - began < views.LONGEST_WAIT_SECONDS


def test_a_second_click_waits_for_the_first(send, hold):
    first = hold("once")
    threading.Timer(0.5, first.close).start()
    assert (send().status_code, Job.objects.count()) == (302, 1)


@pytest.mark.parametrize(
    ("files", "changed", "field", "status"),
    [
        ({"evil.exe": b"MZ", "main.py": b""}, {}, None, 400),
        ({"other.py": b"", "config.yaml": b""}, {}, "entrypoint", 400),
        (None, {"entrypoint": "../../etc/passwd"}, "entrypoint", 400),
        (None, {"config_file": "a/b.yaml"}, "config_file", 400),
        ({}, {}, "files", 400),
        (None, {"leaderboard": "none-such"}, "leaderboard", 400),
        (None, {"resource_class": "huge"}, "resource_class", 400),
        (None, {"config": "[1, 2]"}, "config", 400),
        (None, {"config": "a: [1"}, "config", 400),
        (None, {"config": "a: &x 1\nb: *x"}, "config", 400),
        (None, {"config": "a: .inf"}, "config", 400),
        (None, {"config": '{"a": 1e999}'}, "config", 400),
    ],
)
def test_a_refusal_stands_beside_its_field_and_keeps_what_was_typed(send, files, changed, field, status):
    response = send(files, **{"config": "keep: me", **changed})
    form = response.context["form"]
    assert response.status_code == status
    assert form.errors
    if field:
        assert list(form.errors) == [field]
    assert form["config"].value() == changed.get("config", "keep: me")
    assert Submission.objects.count() == Job.objects.count() == 0


def test_too_large_an_upload_is_refused_with_413(send, settings):
    settings.UPLOAD_MAX_BYTES = 1024 * 1024
    response = send({"main.py": b"#" * 1024 * 1025})
    assert response.status_code == 413
    assert "At most 1 MiB in all" in response.content.decode()
    assert Submission.objects.count() == 0


def test_operators_reruns_do_not_count_against_the_limit_of_concurrent_jobs(owner):
    owner.concurrent_jobs = 1
    owner.save()
    JobFactory(user=owner, rerun_of=JobFactory(user=owner, status="completed"), is_by_operator=True)
    assert quota_used(owner).active == 0
    JobFactory(user=owner)
    assert quota_used(owner).active == 1


def test_beyond_the_hourly_quota_it_says_so(owner, send):
    owner.submissions_per_hour = 1
    owner.save(update_fields=["submissions_per_hour"])
    send()
    response = send(key="twice")
    assert response.status_code == 429
    assert response.context["quota"].left == 0
    page = response.content.decode()
    assert "The next is free in" in page and " UTC</time>" in page
    assert re.search(r"data-send disabled data-blocked=\"\d+\"", page)


def test_with_too_many_jobs_the_files_are_kept_and_can_be_run_later(client, owner, send):
    running = [JobFactory(user=owner) for _ in range(3)]
    response = send()
    submission = Submission.objects.get(leaderboard__slug="bricks")
    assert response["Location"] == submission.get_absolute_url()
    assert "no job was started" in client.get(submission.get_absolute_url()).content.decode()
    client.post(f"{running[0].get_absolute_url()}cancel/")
    client.post(f"{submission.get_absolute_url()}run/", {"resource_class": "small"})
    assert submission.jobs.count() == 1


def test_a_double_click_at_the_limit_of_jobs_stores_once(client, owner, send):
    running = [JobFactory(user=owner) for _ in range(3)]
    first = send()
    assert send()["Location"] == first["Location"] == Submission.objects.get(form_key="once").get_absolute_url()
    assert Submission.objects.filter(leaderboard__slug="bricks").count() == 1
    client.post(f"{running[0].get_absolute_url()}cancel/")
    job = Job.objects.filter(submission__form_key="once")
    assert send()["Location"] == job.get().get_absolute_url()
    job.update(idempotency_key=None)
    send()
    assert Submission.objects.filter(leaderboard__slug="bricks").count() == 1


def test_a_double_click_on_run_starts_one_job(client, owner):
    submission = SubmissionFactory(user=owner)
    page = client.get(submission.get_absolute_url()).content.decode()
    key = re.search(r'name="key" value="(\w{32})"', page)[1]
    for _ in range(2):
        client.post(f"{submission.get_absolute_url()}run/", {"resource_class": "small", "key": key})
    assert submission.jobs.count() == 1


def test_the_form_tells_deadline_queue_and_quota(client, owner):
    LeaderboardFactory(slug="bricks", title="Bricks", closes_at="2099-01-02T03:04Z")
    LeaderboardFactory(slug="later", title="Later", opens_at="2098-01-02T03:04Z")
    WorkerFactory(state="idle", resource_classes=["small"])
    JobFactory(user=owner)
    page = client.get("/submit/").content.decode()
    assert "2099-01-02 03:04:00 UTC" in page and "2098-01-02 03:04:00 UTC" in page
    assert re.search(r'<th scope="row">small</th><td class="number">1</td>', page)
    assert "no worker just now" in page
    Pause.objects.create(leaderboard=None, reason="moving house")
    page = client.get("/submit/").content.decode()
    assert "The queue is paused: moving house" in page


def test_the_form_says_when_no_worker_can_run_a_board(client, owner):
    LeaderboardFactory(slug="bricks", title="Bricks", dataset="bricks")
    WorkerFactory(state="idle", resource_classes=["small"])
    assert "No worker has the data set that this leaderboard needs" in client.get("/submit/").content.decode()


def test_closed_and_foreign_boards_are_not_offered(client, owner):
    LeaderboardFactory(slug="closed", takes_submissions=False)
    LeaderboardFactory(slug="secret", visibility="hidden")
    page = client.get("/submit/").content.decode()
    assert 'value="closed"' not in page and 'value="secret"' not in page and 'value="default"' in page


@pytest.mark.parametrize("may_make", [False, True], ids=["participant", "operator"])
def test_where_nothing_can_be_submitted_the_page_says_why_instead_of_a_form(client, may_make):
    Leaderboard.objects.update(takes_submissions=False)
    client.force_login(UserFactory(is_staff=may_make, is_superuser=may_make))
    page = client.get("/submit/").content.decode()
    assert "No leaderboard takes submissions just now." in page
    assert "<select" not in page and 'type="file"' not in page and "submit.js" not in page
    assert ("/admin/leaderboards/leaderboard/add/" in page) == may_make


def test_a_board_that_closes_while_the_form_is_filled_takes_nothing_typed_away(send):
    Leaderboard.objects.update(takes_submissions=False)
    page = send(config="epochs: 7").content.decode()
    assert "No leaderboard takes submissions just now." in page and "epochs: 7" in page


def test_a_board_can_be_chosen_beforehand(client, owner):
    LeaderboardFactory(slug="bricks")
    assert '<option value="bricks" selected>' in client.get("/submit/?leaderboard=bricks").content.decode()


def test_another_persons_submission_is_not_there(client, owner):
    foreign = SubmissionFactory()
    assert client.get(foreign.get_absolute_url()).status_code == 404
    assert client.post(f"{foreign.get_absolute_url()}run/", {"resource_class": "small"}).status_code == 404
    owner.is_staff = owner.is_superuser = True
    owner.save(update_fields=["is_staff", "is_superuser"])
    assert client.get(foreign.get_absolute_url()).status_code == 200
    assert client.post(f"{foreign.get_absolute_url()}run/", {"resource_class": "small"}).status_code == 404


def test_a_folder_keeps_its_shape(send):
    files = {"main.py": b"", "config.yaml": b"", "a.py": b"# one", "b.py": b"# two"}
    send(files, paths='["main.py", "config.yaml", "src/a.py", "src/deep/b.py"]')
    submission = Submission.objects.get()
    assert [file["path"] for file in submission.manifest] == ["main.py", "config.yaml", "src/a.py", "src/deep/b.py"]


def test_a_folder_around_everything_is_seen_through(send):
    send({"main.py": b"", "config.yaml": b"a: 1"}, paths='["mine/main.py", "mine/config.yaml"]')
    assert Submission.objects.get().root_folder == "mine"


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ('["main.py"]', "1 names for 2 files"),
        ("[1, 2]", "list of file names"),
        ("{", "not valid JSON"),
        ('["main.py", "../config.yaml"]', "leads out of its folder"),
        ('["main.py", "/etc/config.yaml"]', "absolute"),
        ('["main.py", "MAIN.py"]', "same name twice"),
        ('["main.py", "main.py/config.yaml"]', "one name"),
        ('["main.py", "config.exe"]', "must end in one of"),
        ('["main.py", "a/b.zip"]', "one archive alone"),
    ],
)
def test_paths_are_held_to_the_rules_of_archives(send, paths, told):
    response = send(paths=paths)
    assert response.status_code == 400
    assert told in response.content.decode()
    assert Submission.objects.count() == 0


def test_a_submission_can_begin_with_an_earlier_ones_config(client, send):
    send({"run.py": b"", "own.yaml": b"epochs: 7\n"}, entrypoint="run.py", config_file="own.yaml")
    earlier = Submission.objects.get()
    assert client.get(f"{earlier.get_absolute_url()}config/").content == b"epochs: 7\n"
    page = client.get("/submit/").content.decode()
    assert f"?from={earlier.pk}" in page
    form = client.get(f"/submit/?from={earlier.pk}").context["form"]
    told = {name: form[name].value() for name in ("entrypoint", "config_file", "config")}
    assert told == {"entrypoint": "run.py", "config_file": "own.yaml", "config": "epochs: 7\n"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_the_config_of_an_archive_is_read_too(client, send, kind):
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("mine/main.py", "")
            archive.writestr("mine/config.yaml", "a: あ\n")
    else:
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for name, text in (("mine/main.py", b""), ("mine/config.yaml", "a: あ\n".encode())):
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    send({f"code.{kind}": content.getvalue()})
    response = client.get(f"{Submission.objects.get().get_absolute_url()}config/")
    assert response.content.decode() == "a: あ\n"
    assert (response["Content-Type"], response["X-Content-Type-Options"]) == ("text/plain; charset=utf-8", "nosniff")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * (64 * 1024 + 1)], ids=["not-utf8", "long"])
def test_a_config_that_cannot_be_edited_is_not_there(client, send, content):
    send({"main.py": b"", "config.yaml": content})
    assert client.get(f"{Submission.objects.get().get_absolute_url()}config/").status_code == 204
    assert client.get(f"/submit/?from={Submission.objects.get().pk}").context["form"]["config"].value() == ""


def test_without_its_files_a_submission_has_no_config_to_begin_with(client, owner):
    lost = SubmissionFactory(user=owner)
    assert client.get(f"{lost.get_absolute_url()}config/").status_code == 204
    assert client.get(f"{SubmissionFactory().get_absolute_url()}config/").status_code == 404
    assert client.get(f"/submit/?from={SubmissionFactory().pk}").status_code == 200
    assert client.get("/submit/?from=nonsense").status_code == 200


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.yaml", "epochs: 5\nnames: [a, b]\n", ""),
        ("config.yaml", "", ""),
        ("config.yaml", "# a comment alone", ""),
        ("config.yaml", "a: &x 1\nb: *x\n", ""),
        ("config.yaml", "epochs: 5\nnames: [a\nb: 1\n", "Line 3 is not YAML"),
        ("config.yaml", "\tepochs: 5", "Line 1 is not YAML"),
        ("config.yaml", "- 1\n- 2", "Must be a mapping"),
        ("config.yaml", "a: 1\n---\nb: 2", "Only one document"),
        ("config.yaml", "a: \x07", "Line 1 is not YAML: it holds the character U+0007"),
        ("config.yaml", "[" * 70_000, "Line 1 is not accepted: it is nested deeper than 64 levels"),
        ("config.json", '{"a": 1}', ""),
        ("config.json", '{"a": 1,\n}', "Line 2 is not JSON"),
        ("config.json", "[" * 100_000, "Line 1 is not accepted: it is nested deeper than 64 levels"),
        ("config.json", "[1]", "Must be a mapping"),
    ],
    ids=lambda value: "",
)
def test_a_config_is_checked_while_it_is_typed(client, owner, name, text, told):
    problem = client.post("/submit/check-config/", {"text": text[:65536], "name": name}).json()["problem"]
    assert problem.startswith(told) and bool(problem) == bool(told)


def test_the_quota_says_when_a_submission_comes_back(client, owner, send):
    assert "One comes back in" not in client.get("/submit/").content.decode()
    send()
    page = client.get("/submit/").content.decode()
    assert re.search(r"One comes back in</dt><dd><strong class=\"number\">(59 min|1 h)", page)


def test_the_page_says_what_each_leaderboard_wants(client, owner, send):
    hidden = LeaderboardFactory(slug="hidden", title="Hidden", scorer="regression", ground_truth="labels")
    LeaderboardFactory(
        slug="over", title="Over", scorer="regression", ground_truth="labels", closes_at="2020-01-01T00:00Z"
    )
    html = client.get("/submit/?leaderboard=hidden").content.decode()
    assert re.findall(r'data-leaves(?:="([^"]*)")?>', html) == ["", "hidden"]
    own = html.partition('data-leaves="hidden">')[2].partition("</div>")[0]
    assert "“Hidden” is scored on hidden labels" in own and "<code>predictions/</code>" in own
    assert str(hidden.what_to_leave) in own and hidden.get_absolute_url() in own
    assert "metrics.json" not in html.partition("data-leaves")[0]
