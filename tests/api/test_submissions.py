"""POST and GET /api/submissions: what is taken, and each thing that is refused, in the one shape."""

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.models import PLATFORM_FAULTS
from jobs.tests.factories import JobFactory
from leaderboards.models import DEFAULT_SLUG
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import CONFIG, MAIN, Api, left_files, refusal

pytestmark = pytest.mark.django_db


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue())


# --- Taken ---------------------------------------------------------------------------------------------------------


def test_a_writable_code_folder_is_taken_and_shown(api):
    made = api.submit(MAIN, writable_code="true").json()["submission_id"]
    assert api.get(f"/api/submissions/{made}").json()["writable_code"] is True
    answer = api.post("/api/jobs", {"submission_id": made})
    assert api.get(f"/api/jobs/{answer.json()['job_id']}").json()["writable_code"] is True
    refused = api.submit(MAIN, writable_code="maybe")
    assert refusal(refused) == (400, "invalid")
    assert "writable_code: must be true or false, not 'maybe'" in refused.json()["message"]


def test_single_files_are_taken(api, user):
    answer = api.submit()
    made = Submission.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {
        "submission_id": str(made.pk),
        "name": "",
        "entrypoint": "main.py",
        "config_file": "config.yaml",
        "leaderboard": DEFAULT_SLUG,
        "sha256": made.sha256,
        "created_at": made.created_at.isoformat().replace("+00:00", "Z"),
    }
    with storages["submissions"].open(made.object_name) as stored:
        content = stored.read()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (made.size_bytes, made.sha256)
    assert made.user == user
    assert made.manifest == [{"path": "main.py", "bytes": 15}, {"path": "config.yaml", "bytes": 8}]


def test_every_field_is_kept(api):
    board = LeaderboardFactory(slug="textures")
    metadata = {"名前": "岡田", "emoji": "😀𠮷", "escaped": "\\u0000", "n": [1.5, None, True]}
    answer = api.submit(
        ("train.py", b""), ("a.json", b"{}"), entrypoint="train.py", config_file="a.json", leaderboard="textures",
        metadata=json.dumps(metadata), name=" 画像の異常  v2 ",
    )  # fmt: skip
    assert answer.status_code == 201
    assert answer.json()["name"] == "画像の異常 v2"
    made = Submission.objects.get()
    assert (made.entrypoint, made.config_file, made.leaderboard) == ("train.py", "a.json", board)
    shown = api.get(f"/api/submissions/{made.pk}").json()
    assert shown["metadata"] == metadata
    assert shown["files"] == [{"path": "train.py", "bytes": 0}, {"path": "a.json", "bytes": 2}]
    assert shown["size_bytes"] == made.size_bytes


@pytest.mark.parametrize(("pack", "name"), [(zipped, "code.zip"), (tarred, "code.tar.gz"), (zipped, "CODE.ZIP")])
@pytest.mark.parametrize("folder", ["", "my code/", "提出物/"])
def test_an_archive_is_stored_as_it_came_also_with_a_wrapping_folder(api, pack, name, folder):
    content = pack(**{f"{folder}main.py": b"x = 1\n", f"{folder}データ/設定.txt": b"a"})
    assert api.submit((name, content)).status_code == 201
    made = Submission.objects.get()
    assert (made.sha256, made.root_folder) == (hashlib.sha256(content).hexdigest(), folder.rstrip("/"))
    assert [entry["path"] for entry in made.manifest] == [f"{folder}main.py", f"{folder}データ/設定.txt"]
    assert storages["submissions"].open(made.object_name).read() == content


def test_japanese_file_names_are_kept_in_nfc(api):
    assert api.submit(MAIN, ("テ\u3099ータ.txt", b"a")).status_code == 201
    assert [entry["path"] for entry in Submission.objects.get().manifest] == ["main.py", "\u30c7ータ.txt"]


def test_a_default_config_file_may_be_missing(api):
    assert api.submit(MAIN).status_code == 201


# --- Refused -------------------------------------------------------------------------------------------------------


def test_the_message_says_field_rule_and_value(api):
    answer = api.submit(entrypoint="../../etc/passwd")
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "code": "bad_entrypoint",
            "message": "entrypoint: must be a bare file name (letters, digits, _ . -), without a folder, "
            "not '../../etc/passwd'.",
        },
    )


@pytest.mark.parametrize(
    ("files", "fields", "code"),
    [
        ([("other.py", b"")], {}, "missing_entrypoint"),
        ([("code.zip", zipped(**{"a/main.py": b"", "b/x.py": b""}))], {}, "missing_entrypoint"),
        ([MAIN], {"entrypoint": "train.py"}, "missing_entrypoint"),
        ([MAIN], {"entrypoint": "sub/main.py"}, "bad_entrypoint"),
        ([MAIN], {"entrypoint": "main.sh"}, "bad_entrypoint"),
        ([MAIN], {"entrypoint": "main.py\n"}, "bad_entrypoint"),
        ([MAIN], {"entrypoint": "ma\0in.py"}, "bad_entrypoint"),
        ([MAIN], {"entrypoint": "-main.py"}, "bad_entrypoint"),
        ([MAIN], {"entrypoint": "a" * 98 + ".py"}, "bad_entrypoint"),
        ([MAIN], {"config_file": "/etc/passwd"}, "bad_config_file"),
        ([MAIN], {"config_file": "config.ini"}, "bad_config_file"),
        ([MAIN], {"config_file": "other.yaml"}, "missing_config_file"),
        ([MAIN], {"metadata": "{"}, "bad_metadata"),
        ([MAIN], {"metadata": "[]"}, "bad_metadata"),
        ([MAIN], {"metadata": "null"}, "bad_metadata"),
        ([MAIN], {"metadata": '{"a": NaN}'}, "bad_metadata"),
        ([MAIN], {"metadata": '{"a": 1e999}'}, "bad_metadata"),
        ([MAIN], {"metadata": '{"a": "\\u0000"}'}, "bad_metadata"),
        ([MAIN], {"metadata": '{"a\\u0000": 1}'}, "bad_metadata"),
        ([MAIN], {"metadata": '{"a": "\\ud800"}'}, "bad_metadata"),
        ([MAIN], {"metadata": "[" * 100_000}, "bad_metadata"),
        ([MAIN], {"metadata": '{"a":' * 900 + "1" + "}" * 900}, "bad_metadata"),
        ([MAIN], {"metadata": json.dumps({"a": "x" * 16 * 1024})}, "bad_metadata"),
        ([MAIN, ("run.exe", b"MZ")], {}, "bad_extension"),
        ([("main.py.exe", b"MZ")], {}, "bad_extension"),
        ([MAIN, ("code.zip", zipped(a=b""))], {}, "bad_archive"),
        ([("code.zip", b"not a zip")], {}, "bad_archive"),
        ([("code.tar.gz", b"not a tar")], {}, "bad_archive"),
        ([("code.zip", zipped(**{"../main.py": b""}))], {}, "bad_file_name"),
        ([("code.zip", b"")], {}, "bad_archive"),
        ([("code.zip", zipped())], {}, "bad_archive"),
        ([("code.tar.gz", tarred())], {}, "bad_archive"),
        ([("code.zip", zipped(**{"__MACOSX/._x": b"x", ".DS_Store": b"x"}))], {}, "bad_archive"),
    ],
)
def test_wrong_input_is_400_and_leaves_nothing(api, files, fields, code):
    before = left_files()
    assert refusal(api.submit(*files, **fields)) == (400, code)
    assert left_files() == before
    assert Submission.objects.count() == 0


def test_an_archive_that_unpacks_to_too_much_is_413_like_a_body_that_is_too_large(api):
    many = zipped(**{f"f{number}.txt": b"" for number in range(2001)})
    assert refusal(api.submit(("code.zip", many))) == (413, "too_large")
    assert Submission.objects.count() == 0


def test_metadata_of_the_very_limit_is_taken(api):
    text = json.dumps({"a": "x" * (16 * 1024 - 9)})
    assert len(text) == 16 * 1024
    assert api.submit(metadata=text).status_code == 201


def test_names_that_are_the_same_after_normalising_are_refused(api):
    status, _ = refusal(api.submit(MAIN, ("MAIN.py", b""), ("main.py", b"2")))
    assert status == 400


def test_a_hundred_files_are_taken_and_one_more_is_not(api):
    names = [(f"f{n}.txt", b"") for n in range(99)]
    assert api.submit(MAIN, *names).status_code == 201
    assert refusal(api.submit(MAIN, *names, CONFIG)) == (400, "too_many_files")


# --- Leaderboards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"visibility": "hidden"}, (404, "not_found")),
        ({"takes_submissions": False}, (409, "leaderboard_closed")),
        ({"opens_at": timezone.now() + timedelta(hours=1)}, (409, "leaderboard_closed")),
        ({"closes_at": timezone.now() - timedelta(hours=1)}, (409, "leaderboard_closed")),
    ],
)
def test_a_leaderboard_that_is_hidden_or_closed(api, fields, expected):
    LeaderboardFactory(slug="board", **fields)
    assert refusal(api.submit(leaderboard="board")) == expected


@pytest.mark.parametrize("slug", ["nowhere", "a\0b"])
def test_a_leaderboard_that_is_not_there(api, slug):
    assert refusal(api.submit(leaderboard=slug)) == (404, "not_found")


# --- Quota ---------------------------------------------------------------------------------------------------------


def earlier(user, minutes, **fields):
    return SubmissionFactory(user=user, created_at=timezone.now() - timedelta(minutes=minutes), **fields)


def test_the_eleventh_submission_within_an_hour_is_429(api, user):
    for minutes in range(5, 50, 5):
        earlier(user, minutes)
    earlier(user, 61)
    assert api.submit().status_code == 201
    before = left_files()
    answer = api.submit()
    assert refusal(answer) == (429, "hourly_limit")
    assert answer.json()["message"] == "You made 10 submissions within the last hour, which is the limit."
    assert 14 * 60 < int(answer.headers["Retry-After"]) <= 15 * 60  # the oldest one is 45 minutes old
    assert left_files() == before
    Submission.objects.filter(created_at__lt=timezone.now() - timedelta(minutes=44)).delete()
    assert api.submit().status_code == 201


def test_another_persons_submissions_do_not_count(api):
    for _ in range(10):
        earlier(UserFactory.create(), 1)
    assert api.submit().status_code == 201


def test_a_persons_own_quota_stands_above_the_sites(api, user):
    user.submissions_per_hour = 0
    user.save(update_fields=["submissions_per_hour"])
    answer = api.submit()
    assert (refusal(answer), answer.headers["Retry-After"]) == ((429, "hourly_limit"), "3600")


@pytest.mark.parametrize(
    ("error_code", "status"),
    [*((code, 201) for code in PLATFORM_FAULTS), ("exit_nonzero", 429), ("bad_predictions", 429)],
)
def test_a_submission_that_the_platform_failed_costs_nothing(api, user, error_code, status):
    for _ in range(10):
        made = earlier(user, 1)
    JobFactory(user=user, submission=made, leaderboard=made.leaderboard, status="failed", error_code=error_code)
    assert api.submit().status_code == status


def run(made, **fields):
    return JobFactory(user=made.user, submission=made, leaderboard=made.leaderboard, **fields)


def test_a_submission_costs_nothing_while_all_its_own_jobs_cost_nothing(api, user):
    for _ in range(10):
        made = earlier(user, 1)
    run(made, status="cancelled", costs_quota=False)
    run(made, status="completed", is_by_operator=True, costs_quota=False)
    sent = api.submit()
    assert sent.status_code == 201
    Submission.objects.filter(pk=sent.json()["submission_id"]).delete()
    run(made)
    assert refusal(api.submit()) == (429, "hourly_limit")


def test_an_operators_rerun_alone_gives_no_submission_back(api, user):
    for _ in range(10):
        made = earlier(user, 1)
    run(made, status="completed", is_by_operator=True, costs_quota=False)
    assert refusal(api.submit()) == (429, "hourly_limit")


def test_uploads_that_cost_nothing_are_bounded(api, user):
    for _ in range(29):
        run(earlier(user, 1), status="cancelled", costs_quota=False)
    assert api.submit().status_code == 201
    answer = api.submit()
    assert refusal(answer) == (429, "hourly_limit")
    assert answer.json()["message"] == "You made 30 submissions within the last hour, which is the limit."


# --- Reading -------------------------------------------------------------------------------------------------------


def test_own_submissions_newest_first_in_pages(api, user):
    SubmissionFactory()
    made = [earlier(user, minutes) for minutes in (1, 2, 3)]
    first = api.get("/api/submissions", {"limit": 2}).json()
    assert set(first) == {"next", "previous", "results"}
    assert [row["submission_id"] for row in first["results"]] == [str(row.pk) for row in made[:2]]
    second = api.get(first["next"]).json()
    assert ([row["submission_id"] for row in second["results"]], second["next"]) == ([str(made[2].pk)], None)
    assert api.get(second["previous"]).json()["results"] == first["results"]


@pytest.mark.parametrize("cursor", ["x", "%%%", "cD1ub3RhZGF0ZQ==", "cD0wMDAxLTAxLTAx", "bz05OTk5OTk5OTk5", "cD0AAA=="])
def test_a_cursor_that_was_never_given(api, cursor):
    answer = api.get("/api/submissions", {"cursor": cursor})
    assert answer.status_code == 200 or refusal(answer) == (400, "bad_cursor")


def test_a_cursor_that_is_no_time(api):
    assert refusal(api.get("/api/submissions", {"cursor": "cD1ub3RhZGF0ZQ=="})) == (400, "bad_cursor")


@pytest.mark.parametrize("of", ["another", "nobody"])
def test_a_foreign_submission_is_not_there(api, of):
    pk = SubmissionFactory().pk if of == "another" else uuid4()
    answer = api.get(f"/api/submissions/{pk}")
    assert (answer.status_code, answer.json()) == (
        404,
        {"code": "not_found", "message": "No such object, or it is not yours."},
    )


def test_a_list_costs_the_same_queries_at_1_and_30_rows(api, user, django_assert_num_queries):
    earlier(user, 1)
    for rows in (1, 30):
        for _ in range(rows - 1):
            earlier(user, 1)
        with django_assert_num_queries(2):  # token, page
            assert len(api.get("/api/submissions").json()["results"]) == rows


def test_operators_see_their_own_list_and_any_submission(db):
    operator, made = Api(UserFactory(is_staff=True, is_superuser=True)), SubmissionFactory()
    assert operator.get("/api/submissions").json()["results"] == []
    assert operator.get(f"/api/submissions/{made.pk}").json()["submission_id"] == str(made.pk)
