"""Jobs side by side: curves over each other, pictures, code; and what is never shown of another person's job."""

import io
import tarfile
import zipfile

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.code_diff import MAX_FILE_LINES, MAX_STORED_BYTES, SHOWN_LINES, code_diff
from jobs.models import JobProgress
from jobs.tests.factories import JobFactory
from leaderboards.models import Disqualification
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db
SECRET = "secret-3c1f"


@pytest.fixture
def owner(client):
    user = UserFactory()
    client.force_login(user)
    return user


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


PACKERS = {"tar": tar, "tar.gz": lambda files: tar(files, "w:gz"), "zip": zipped}


def submission(files: dict[str, bytes | str], *, kind: str = "tar", root: str = "", **fields) -> Submission:
    """One whose archive is really stored."""
    prefix = f"{root}/" if root else ""
    packed = {prefix + name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    raw = PACKERS[kind](packed)
    made = SubmissionFactory(
        kind=kind, root_folder=root, size_bytes=len(raw), manifest=[{"path": path, "bytes": len(text)} for path, text in packed.items()],
        **fields,
    )  # fmt: skip
    name = storages["submissions"].save(made.object_name, ContentFile(raw))
    Submission.objects.filter(pk=made.pk).update(object_name=name)
    made.object_name = name
    return made


def jobs_of(owner, *files: dict[str, bytes | str]):
    made = [submission(one, user=owner) for one in files]
    return [JobFactory(user=owner, submission=one, leaderboard=one.leaderboard, status="completed") for one in made]


def address(*jobs) -> str:
    return "/compare/?" + "&".join(f"job={job.pk}" for job in jobs)


def code_address(*jobs) -> str:
    return address(*jobs).replace("/compare/", "/compare/code/")


# --- Curves and pictures -------------------------------------------------------------------------------------------
def test_curves_are_laid_over_each_other_in_the_colour_of_their_job(client, owner):
    jobs = [JobFactory(user=owner, status="completed") for _ in range(3)]
    loss = [{"name": "loss", "points": [[0, 1.0, 0], [5, 0.5, 1]]}]
    JobProgress.objects.create(job=jobs[0], attempt=1, curves=loss)
    JobProgress.objects.create(job=jobs[2], attempt=1, curves=[*loss, {"name": "auc", "points": [[0, 0.5, 0]]}])
    response = client.get(address(*jobs))
    charts = response.context["table"].charts
    assert [(chart.name, [line.number for line in chart.lines]) for chart in charts] == [("loss", [0, 2]), ("auc", [2])]
    assert f"{jobs[2].submission.label}: 1.0000 at 0, 0.5000 at 5" in response.content.decode()


def test_jobs_are_called_as_their_submissions_are_and_told_apart(client, owner):
    first, second, third = jobs_of(owner, {}, {}, {})
    Submission.objects.filter(pk__in=[first.submission_id, second.submission_id]).update(name="PatchCore")
    names = [f"PatchCore ({str(first.pk)[:8]})", f"PatchCore ({str(second.pk)[:8]})", third.submission.label]
    response = client.get(address(first, second, third))
    assert [side.name for side in response.context["sides"]] == names


def test_pictures_of_one_name_stand_side_by_side(client, owner):
    def left(*names):
        return [{"path": name, "bytes": 1, "sha256": "", "name": "x"} for name in names]

    one = JobFactory(user=owner, status="completed", artifacts=left("roc.PNG", "only.png", "a.txt"))
    two = JobFactory(user=owner, status="completed", artifacts=left("roc.PNG", "a.txt"))
    response = client.get(address(one, two))
    assert [(row.path, [side.job for side in row.sides]) for row in response.context["table"].pictures] == [
        ("roc.PNG", [one, two])
    ]
    assert response.content.decode().count("<img ") == 2


# --- Other people's jobs -------------------------------------------------------------------------------------------
@pytest.fixture
def leader():
    """Another person's job that leads a public board, with more to it than the board shows."""
    board = LeaderboardFactory(slug="bricks", visibility="public")
    job = JobFactory(
        leaderboard=board, status="completed", score=0.75, wall_seconds=60, metrics={"image_auc": 0.75, SECRET: 0.5},
        params={"lr": SECRET}, config={SECRET: 1}, artifacts=[{"path": f"{SECRET}.png", "bytes": 1, "sha256": "", "name": "x"}],
    )  # fmt: skip
    JobProgress.objects.create(job=job, attempt=1, message=SECRET, curves=[{"name": SECRET, "points": [[0, 1.0, 0]]}])
    EntryFactory(leaderboard=board, job=job, score=0.75)
    return job


def test_of_a_leader_only_what_the_board_shows_is_compared(client, owner, leader):
    mine = JobFactory(
        user=owner, leaderboard=leader.leaderboard, status="completed", score=0.5, params={"lr": 1},
        artifacts=[{"path": f"{SECRET[:3]}.png", "bytes": 1, "sha256": "", "name": "x"}],
    )  # fmt: skip
    response = client.get(f"{address(mine, leader)}&baseline={mine.pk}")
    html = response.content.decode()
    assert SECRET not in html and leader.user.username in html and leader.get_absolute_url() not in html
    auc = response.context["table"].metrics[0]
    assert [cell.value for cell in auc.cells] == [0.5, 0.75] and auc.cells[1].difference == 0.25
    assert "compare-code" not in html and "you see what the leaderboard shows" in html
    assert SECRET not in client.get(address(leader, mine)).content.decode()
    assert client.get(code_address(mine, leader)).status_code == 404
    assert client.get(code_address(leader, mine)).status_code == 404


@pytest.mark.parametrize("visibility", ["hidden", "members"])
def test_a_board_that_one_may_not_see_lends_no_jobs(client, owner, leader, visibility):
    leader.leaderboard.visibility = visibility
    leader.leaderboard.save(update_fields=["visibility"])
    mine = JobFactory(user=owner, status="completed")
    assert client.get(address(mine, leader)).status_code == {"hidden": 404, "members": 200}[visibility]


def test_a_job_without_an_entry_lends_nothing(client, owner, leader):
    beaten = JobFactory(user=leader.user, leaderboard=leader.leaderboard, status="completed")
    assert client.get(address(JobFactory(user=owner), beaten)).status_code == 404


def test_what_is_not_public_is_never_the_same(client, owner, leader):
    mine = JobFactory(user=owner, leaderboard=leader.leaderboard, status="completed", score=0.5, params={"lr": 1})
    html = client.get(address(mine, leader)).content.decode()
    assert "Not public, so they cannot be compared." in html
    assert "all params are the same" not in html and "params are the same" not in html
    again = JobFactory(
        user=owner, leaderboard=leader.leaderboard, status="completed", params={"lr": 2}, metrics={"own": 1.0}
    )
    response = client.get(address(mine, again, leader))
    (row,) = response.context["table"].differing
    assert [(cell.value, cell.is_public) for cell in row.cells] == [(1, True), (2, True), (None, False)]
    (own,) = [row for row in response.context["table"].metrics if row.name == "own"]
    assert [cell.is_public for cell in own.cells] == [True, True, False]
    assert "in the jobs whose params you may see" in response.content.decode()


# --- Baseline, best and differences --------------------------------------------------------------------------------
def marks(response):
    return [
        [(cell.difference, cell.is_better, cell.is_best) for cell in row.cells]
        for row in response.context["table"].metrics
    ]


def test_the_older_job_is_the_baseline_unless_another_is_chosen(client, owner):
    board = LeaderboardFactory()
    old, new = [
        JobFactory(user=owner, leaderboard=board, status="completed", metrics={"image_auc": value})
        for value in (0.5, 0.75)
    ]
    assert marks(client.get(address(new, old))) == [[(0.25, True, True), (None, None, False)]]
    response = client.get(f"{address(new, old)}&baseline={new.pk}")
    assert marks(response) == [[(None, None, True), (-0.25, False, False)]]
    assert f"baseline={old.pk}" in response.content.decode()
    assert client.get(f"{address(new, old)}&baseline={JobFactory(user=owner).pk}").status_code == 404


def test_a_lower_value_is_better_where_the_metric_says_so(client, owner):
    board = LeaderboardFactory()
    board.metrics.update(direction="lower")
    for value in (0.75, 0.5):
        JobFactory(user=owner, leaderboard=board, status="completed", metrics={"image_auc": value})
    assert marks(client.get(address(*owner.jobs.order_by("created_at")))) == [
        [(None, None, False), (-0.25, True, True)]
    ]


@pytest.mark.parametrize("change", [{"leaderboard": "another"}, {"scorer": "images"}, {"ground_truth": "other"}])
def test_what_was_scored_differently_shares_no_best(client, owner, change):
    board = LeaderboardFactory()
    if "leaderboard" in change:
        change = {"leaderboard": LeaderboardFactory()}
    one = JobFactory(user=owner, leaderboard=board, status="completed", metrics={"image_auc": 0.5})
    two = JobFactory(
        **{"user": owner, "leaderboard": board, "status": "completed", "metrics": {"image_auc": 0.75}, **change}
    )
    response = client.get(address(one, two))
    assert all(mark == (None, None, False) for row in marks(response) for mark in row)
    assert "cannot be compared: none is marked best" in response.content.decode()


def test_a_run_without_metrics_makes_nothing_incomparable(client, owner):
    board = LeaderboardFactory()
    one = JobFactory(user=owner, leaderboard=board, status="completed", metrics={"image_auc": 0.5}, scorer="images")
    two = JobFactory(user=owner, leaderboard=board, metrics={})
    assert "cannot be compared" not in client.get(address(one, two)).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "word"), [("trial", True, "trial"), ("withdrawn_at", timezone.now(), "withdrawn")]
)
def test_trials_and_withdrawn_runs_are_labelled_and_never_best(client, owner, field, value, word):
    board = LeaderboardFactory()
    values = [(0.5, {}), (0.75, {}), (1.0, {field: value})]
    jobs = [
        JobFactory(user=owner, leaderboard=board, status="completed", metrics={"image_auc": auc}, **more)
        for auc, more in values
    ]
    response = client.get(address(*jobs))
    assert [best for _difference, _better, best in marks(response)[0]] == [False, True, False]
    assert f'<span class="chip aside">{word}</span>' in response.content.decode()


def test_a_disqualified_run_is_never_best(client, owner):
    board = LeaderboardFactory()
    jobs = [
        JobFactory(user=owner, leaderboard=board, status="completed", metrics={"image_auc": auc})
        for auc in (0.5, 0.75, 1)
    ]
    Disqualification.objects.create(job=jobs[2], reason="labels in the code")
    assert [best for _difference, _better, best in marks(client.get(address(*jobs)))[0]] == [False, True, False]


def test_true_is_not_one_and_null_is_not_missing(client, owner):
    one, two = [
        JobFactory(user=owner, status="completed", params=params) for params in ({"a": 1, "b": None}, {"a": True})
    ]
    assert [row.name for row in client.get(address(one, two)).context["table"].differing] == ["a", "b"]


def test_operators_compare_all_of_it(client, leader):
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    other = JobFactory(status="completed")
    html = client.get(address(leader, other)).content.decode()
    assert SECRET in html and "compare-code" in html


# --- Code ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kinds", [("tar", "zip"), ("zip", "tar.gz"), ("tar.gz", "tar")])
def test_code_of_any_two_archives_is_compared(kinds):
    old = submission({"main.py": "a\nb\nc\n", "same.py": "x", "gone.py": "1\n"}, kind=kinds[0])
    new = submission({"main.py": "a\nB\nc\n", "same.py": "x", "new.py": "2\n"}, kind=kinds[1], root="folder")
    diff = code_diff(old, new)
    assert (diff.same_count, diff.left_out, diff.is_cut) == (1, 0, False)
    assert [(file.path, file.state, file.added, file.removed) for file in diff.files] == [
        ("gone.py", "removed", 0, 1), ("main.py", "changed", 1, 1), ("new.py", "added", 1, 0),
    ]  # fmt: skip
    assert diff.files[1].lines == [
        ("hunk", "@@ -1,3 +1,3 @@"),
        ("same", "a"),
        ("del", "b"),
        ("add", "B"),
        ("same", "c"),
    ]


def test_a_change_far_inside_says_where_it_is():
    lines = [f"line {number}" for number in range(5000)]
    changed = [*lines[:2500], "new", *lines[2501:]]
    (file,) = code_diff(submission({"main.py": "\n".join(lines)}), submission({"main.py": "\n".join(changed)})).files
    assert file.lines[0] == ("hunk", "@@ -2498,7 +2498,7 @@")
    assert [kind for kind, _ in file.lines[1:]] == ["same"] * 3 + ["del", "add"] + ["same"] * 3


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"\0a", b"\0b", "not text"),
        (b"\xff\xfe", b"x", "not text"),
        (b"a\r\nb\r\n", b"a\nb\n", "only line ends differ"),
        (b"a" * 200_000, b"b", "too large to compare here"),
        (b"a\n" * (MAX_FILE_LINES + 1), b"b\n" * 3, "too large to compare here"),
    ],
    ids=["binary", "no UTF-8", "line ends", "bytes", "lines"],
)
def test_what_cannot_be_compared_says_why(old, new, why):
    (file,) = code_diff(submission({"main.py": old}), submission({"main.py": new})).files
    assert (file.why, file.lines) == (why, [])


def test_a_long_diff_is_cut():
    old = {f"f{number}.py": "a\n" * 400 for number in range(5)}
    new = {f"f{number}.py": "b\n" * 400 for number in range(5)}
    diff = code_diff(submission(old), submission(new))
    assert diff.is_cut and sum(len(file.lines) for file in diff.files) == SHOWN_LINES
    assert [file.added for file in diff.files] == [400] * 5


def test_an_archive_too_large_is_not_opened(client, owner):
    one, two = jobs_of(owner, {"main.py": "a"}, {"main.py": "b"})
    Submission.objects.filter(pk=one.submission_id).update(size_bytes=MAX_STORED_BYTES + 1)
    html = client.get(code_address(one, two)).content.decode()
    assert "Submissions of more than 16 MiB are not compared here." in html


def test_the_page_of_code_is_escaped_and_also_a_part(client, owner):
    one, two = jobs_of(owner, {"main.py": "<script>a</script>\n"}, {"main.py": "b && c\n"})
    page = client.get(code_address(one, two))
    html = page.content.decode()
    assert '<span class="del">&lt;script&gt;a&lt;/script&gt;' in html and '<span class="add">b &amp;&amp; c' in html
    part = client.get(code_address(one, two), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part and '<span class="add">' in part
    whole = client.get(address(one, two)).content.decode()
    assert f'hx-get="{code_address(one, two).replace("&", "&amp;")}"' in whole


def test_the_same_files_are_said_to_be_the_same(client, owner):
    one = JobFactory(user=owner, status="completed")
    again = JobFactory(user=owner, submission=one.submission, status="completed")
    assert "ran the same files" in client.get(address(one, again)).content.decode()
    assert code_diff(one.submission, again.submission).same_count == 2


def test_code_of_anything_but_two_jobs_of_ones_own_is_404(client, owner):
    mine, theirs = JobFactory(user=owner), JobFactory()
    urls = [
        code_address(mine),
        code_address(mine, theirs),
        code_address(theirs, mine),
        code_address(mine, mine),
        "/compare/code/?job=x&job=y",
        "/compare/code/",
    ]
    assert [client.get(url).status_code for url in urls] == [404] * 6


def test_a_submission_that_is_out_of_reach_is_503(client, owner, monkeypatch):
    one, two = jobs_of(owner, {"main.py": "a"}, {"main.py": "b"})

    def away(*_arguments):
        raise OSError("away")

    monkeypatch.setattr(storages["submissions"], "open", away)
    assert client.get(code_address(one, two)).status_code == 503


# --- Queries and weight --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 8])
def test_a_comparison_with_leaders_costs_the_same_number_of_queries(client, owner, django_assert_num_queries, count):
    board = LeaderboardFactory()
    jobs = [JobFactory(user=owner, leaderboard=board, status="completed")]
    for _ in range(count - 1):
        jobs.append(JobFactory(leaderboard=board, status="completed"))
        EntryFactory(leaderboard=board, job=jobs[-1], score=0.9)
    # Session, user; own jobs, their metrics; others', their people, boards and metrics.
    with django_assert_num_queries(8):
        assert client.get(address(*jobs)).status_code == 200


def test_a_full_comparison_stays_light(client, owner):
    points = [[step, 1 / (step + 1), step / 10] for step in range(256)]
    jobs = []
    for number in range(8):
        metrics = {f"metric_{index}": 0.123456 for index in range(50)}
        params = {f"param_{index}": f"{number}" for index in range(50)}
        jobs.append(JobFactory(user=owner, status="completed", metrics=metrics, params=params))
        curves = [{"name": f"curve/{index}", "points": points} for index in range(32)]
        JobProgress.objects.create(job=jobs[-1], attempt=1, curves=curves)
    response = client.get(address(*jobs))
    assert (len(response.context["table"].charts), response.context["table"].more_charts) == (12, 20)
    assert len(response.content) < 150_000
    changed = [{"main.py": "\n".join(f"{word} {number} " + "x" * 80 for number in range(1400))} for word in "ab"]
    assert len(client.get(code_address(*jobs_of(owner, *changed))).content) < 150_000
