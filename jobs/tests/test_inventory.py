"""Workers announce what they have of what leaderboards need, claim only what they can run, and say what is missing."""

import threading
import time

import pytest

from core import folder_digest
from jobs import claiming, sandbox, waiting
from jobs.board_needs import REASONS, boards_with_needs, missing
from jobs.inventory import Inventory
from jobs.models import Job, Worker
from jobs.scoring import ChangedDuringRun, ScoreVersionDiffers, verified
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.unrunnable import unrunnable_jobs
from leaderboards.models import Leaderboard, ScoreVersion
from leaderboards.tests.factories import LeaderboardFactory, ScoreVersionFactory
from leaderboards.versioning import settle

pytestmark = pytest.mark.django_db
DIGEST, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def roots(settings, tmp_path):
    """Folders of a machine: a data set, labels, and a scorer of an organizer's."""
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = tmp_path / "data", tmp_path / "truth"
    settings.SCORER_ROOT, settings.WORK_ROOT = tmp_path / "scorers", tmp_path / "work"
    (tmp_path / "data" / "pets").mkdir(parents=True)
    for name in ("truth/pets", "scorers/ours"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "truth" / "pets" / "labels.csv").write_text("id,label\n1,cat\n")
    (tmp_path / "scorers" / "ours" / "main.py").write_text("pass\n")
    return tmp_path


def scored_board(**fields):
    return LeaderboardFactory(**{"dataset": "pets", "scorer": "own/ours", "ground_truth": "pets", **fields})


def worker(**fields):
    return WorkerFactory(state="idle", resource_classes=["small"], **fields)


def claim(row, inventory=None):
    boards = inventory.boards if inventory else None
    return claiming.claim_next(worker_id=row.pk, worker_name="w", resource_classes=["small"], boards=boards)


def inventory_of(row, **options):
    inventory = Inventory(row.pk, **options)
    inventory.refresh()
    row.refresh_from_db()
    return inventory


# --- The rule ------------------------------------------------------------------------------------------------------
ALL = {
    "datasets": ["pets"], "images": ["localhost/pets:1"],
    "ground_truths": {"pets": DIGEST}, "scorers": {"own/ours": DIGEST, "regression": [1, 2]},
}  # fmt: skip
OWN = {"scorer": "own/ours", "ground_truth": "pets"}
BUILT_IN = {"scorer": "regression", "ground_truth": "pets"}


@pytest.mark.parametrize(
    ("board", "version", "change", "lacks"),
    [
        ({}, None, {}, []),
        ({"dataset": "pets"}, None, {}, []),
        ({"dataset": "birds"}, None, {}, ["dataset"]),
        ({"image": "localhost/pets:1"}, None, {}, []),
        ({"image": "localhost/birds:1", "dataset": "birds"}, None, {}, ["dataset", "image"]),
        (OWN, {"scorer_digest": DIGEST}, {}, []),
        (OWN, {"scorer_digest": OTHER}, {}, ["other_scorer"]),
        (OWN, {"scorer_digest": DIGEST, "ground_truth_digest": OTHER}, {}, ["other_ground_truth"]),
        (OWN, {"scorer_digest": DIGEST}, {"ground_truths": {}}, ["ground_truth"]),
        (OWN, {"scorer_digest": DIGEST}, {"ground_truths": {}, "scorers": {}}, ["scorer", "ground_truth"]),
        (OWN, None, {}, ["unsettled"]),
        (OWN, {"scorer_digest": ""}, {}, ["unsettled"]),
        (OWN, {"scorer_digest": DIGEST, "ground_truth_digest": ""}, {}, ["unsettled"]),
        (OWN, {"scorer_digest": DIGEST, "ground_truth": "older"}, {}, ["unsettled"]),
        (BUILT_IN, {}, {}, []),
        (BUILT_IN, {"scorer_version": 2}, {}, []),
        (BUILT_IN, {"scorer_version": 3}, {}, ["other_scorer"]),
        (BUILT_IN, {"scorer_version": 1}, {"scorers": {"regression": [2]}}, ["other_scorer"]),
    ],
)  # fmt: skip
def test_what_is_missing(board, version, change, lacks):
    made = LeaderboardFactory(**board)
    if version is not None:
        ScoreVersionFactory(leaderboard=made, **{"ground_truth_digest": DIGEST, **version})
    assert missing(boards_with_needs().get(pk=made.pk), {**ALL, **change}) == lacks
    # The claim goes by the same rule.
    job = JobFactory(leaderboard=made)
    assert claim(worker(inventory={**ALL, **change})) == (None if lacks else job)
    assert set(lacks) <= set(REASONS)


def test_worker_without_what_a_board_needs_leaves_its_jobs_to_one_that_has_it(roots):
    board = LeaderboardFactory(dataset="pets")
    job, without, having = JobFactory(leaderboard=board), worker(), worker()
    (roots / "data" / "pets").rmdir()
    poor = inventory_of(without)
    (roots / "data" / "pets").mkdir()
    rich = inventory_of(having)
    assert claim(without, poor) is None
    assert claim(having, rich) == job


def test_job_is_not_claimed_for_a_version_that_the_worker_did_not_look_at(roots):
    board, row = scored_board(), worker()
    inventory = inventory_of(row)
    job = JobFactory(leaderboard=board)
    ScoreVersionFactory(leaderboard=board, number=2, ground_truth_digest=OTHER, scorer_digest=DIGEST)
    assert claim(row, inventory) is None
    ScoreVersion.objects.filter(number=2).update(
        ground_truth_digest=row.inventory["ground_truths"]["pets"], scorer_digest=row.inventory["scorers"]["own/ours"]
    )
    inventory.refresh()
    claimed = claim(row, inventory)
    assert (claimed, claimed.leaderboard.score_version.number) == (job, 2)


# --- What is announced ---------------------------------------------------------------------------------------------
def test_worker_announces_what_it_has_and_the_first_job_of_a_new_board_can_start(roots):
    board, row = scored_board(), worker()
    LeaderboardFactory(dataset="birds", image="localhost/pets:1")
    LeaderboardFactory(dataset="../truth/pets")
    job = JobFactory(leaderboard=board)
    gained = []
    inventory = inventory_of(row, on_gain=lambda: gained.append(1))
    assert row.inventory["datasets"] == ["pets"]
    assert row.inventory["images"] == []
    assert row.inventory["scorers"]["regression"] == [1]
    assert [len(row.inventory[kind][name]) for kind, name in (("ground_truths", "pets"), ("scorers", "own/ours"))] == [
        64,
        64,
    ]
    version = Leaderboard.objects.get(pk=board.pk).score_version
    assert (version.number, version.ground_truth_digest) == (1, row.inventory["ground_truths"]["pets"])
    assert gained and claim(row, inventory) == job


def test_labels_that_differ_from_the_score_version_wait_and_say_why(roots):
    board, row = scored_board(), worker()
    inventory = inventory_of(row)
    JobFactory(leaderboard=board)
    (roots / "truth" / "pets" / "labels.csv").write_text("id,label\n1,dog\n")
    inventory._folders.clear()
    inventory.refresh()
    assert claim(row, inventory) is None
    assert waiting.waiting(Job.objects.get()).reason == str(REASONS["other_ground_truth"])
    assert "differ from the leaderboard's score version" in str(REASONS["other_ground_truth"])
    assert ScoreVersion.objects.count() == 1, "no worker changes a version"
    (roots / "truth" / "pets" / "labels.csv").write_text("id,label\n1,cat\n")
    inventory._folders.clear()
    inventory.refresh()
    assert claim(row, inventory) == Job.objects.get()


def test_workers_that_differ_settle_nothing(roots):
    board = scored_board(scorer="regression")
    worker(inventory={"ground_truths": {"pets": DIGEST}})
    worker(inventory={"ground_truths": {"pets": OTHER}})
    JobFactory(leaderboard=board)
    settle()
    assert ScoreVersion.objects.get().ground_truth_digest == ""
    worker(inventory={"ground_truths": {"pets": OTHER}, "scorers": {"regression": [1]}, "datasets": ["pets"]})
    assert waiting.waiting(Job.objects.get()).reason == str(REASONS["unsettled"])


def test_unsafe_executor_can_score_nothing(roots, settings):
    settings.EXECUTOR = "unsafe-local"
    scored_board()
    row = worker()
    assert inventory_of(row).boards.keys() == set(Leaderboard.objects.filter(scorer="").values_list("pk", flat=True))
    assert (row.inventory["scorers"], row.inventory["ground_truths"]) == ({}, {})


def test_images_are_asked_of_the_engine_and_remembered(roots, settings, tmp_path):
    asked = tmp_path / "asked"
    engine = tmp_path / "podman"
    engine.write_text(f'#!/bin/sh\necho "$*" >> {asked}\ncase "$*" in *there*) exit 0;; esac\nexit 1\n')
    engine.chmod(0o755)
    settings.EXECUTOR, settings.CONTAINER_ENGINE = "container", str(engine)
    for name in ("localhost/there:1", "localhost/gone:1"):
        LeaderboardFactory(image=name)
    row = worker()
    inventory = inventory_of(row)
    assert row.inventory["images"] == ["localhost/there:1"]
    before = asked.read_text()
    inventory.refresh()
    assert asked.read_text() == before
    settings.SCORING_IMAGE = "localhost/gone:2"
    inventory.refresh()
    row.refresh_from_db()
    assert row.inventory["scorers"] == {}, "without its image no scorer runs here"
    assert sandbox.container("x") is not None


def test_unchanged_inventory_writes_nothing_and_reads_no_file(roots, django_assert_num_queries, monkeypatch):
    scored_board()
    inventory = inventory_of(worker())
    monkeypatch.setattr(folder_digest, "_files", lambda *_: pytest.fail("walked again so soon"))
    with django_assert_num_queries(1):
        inventory.refresh()


def test_hashing_holds_up_neither_the_announcement_nor_the_claims_of_others(roots, monkeypatch):
    big, other = scored_board(scorer="regression"), LeaderboardFactory(dataset="pets")
    row = worker()
    inventory = Inventory(row.pk)
    seen = []

    def read(file, is_stopping):
        row.refresh_from_db()
        seen.append((row.inventory["datasets"], other.pk in inventory.boards, big.pk in inventory.boards))
        return DIGEST

    monkeypatch.setattr(folder_digest, "_read_file", read)
    inventory.refresh()
    assert seen == [(["pets"], True, False)]
    assert big.pk in inventory.boards


@pytest.mark.django_db(transaction=True)
def test_thread_looks_at_once_when_asked_and_ends_when_told(roots, settings):
    settings.INVENTORY_SECONDS = 60
    board, row, gained = LeaderboardFactory(), worker(), threading.Event()
    inventory = Inventory(row.pk, gained.set)
    inventory.start()
    try:
        assert gained.wait(10) and board.pk in inventory.boards
        gained.clear()
        new = scored_board()
        began = time.monotonic()
        assert inventory.look() is False
        assert gained.wait(10) and new.pk in inventory.boards
        assert time.monotonic() - began < 1
    finally:
        inventory.stop()
    assert not inventory._thread.is_alive()


# --- Before and after a run ----------------------------------------------------------------------------------------
def test_run_begins_and_ends_on_the_labels_of_its_score_version(roots):
    board, inventory = scored_board(), inventory_of(worker())
    board = Leaderboard.objects.get(pk=board.pk)
    scoring = verified(board, inventory.digests)
    scoring.check_unchanged(inventory.digests)
    labels = roots / "truth" / "pets" / "labels.csv"
    content = labels.read_text()
    labels.write_text(content)  # the same again: nothing tells what the scorer read meanwhile
    with pytest.raises(ChangedDuringRun, match="changed during the run"):
        scoring.check_unchanged(inventory.digests)
    assert verified(board, inventory.digests).signatures != scoring.signatures
    (roots / "scorers" / "ours" / "main.py").write_text("print()\n")
    with pytest.raises(ScoreVersionDiffers, match="differs from score version 1"):
        verified(board, inventory.digests)


def test_what_a_run_forgot_is_not_taken_up_from_an_earlier_look(roots, monkeypatch):
    board = scored_board()
    inventory = inventory_of(worker())
    read = inventory.digests.state

    def forgotten_meanwhile(*arguments):
        state = read(*arguments)
        inventory.forget(board)
        return state

    inventory.forget(board)
    assert board.pk not in inventory.boards
    monkeypatch.setattr(inventory.digests, "state", forgotten_meanwhile)
    inventory.refresh()
    assert board.pk not in inventory.boards
    monkeypatch.undo()
    inventory.refresh()
    assert board.pk in inventory.boards


# --- Who is told ---------------------------------------------------------------------------------------------------
def test_job_that_no_worker_can_run_says_so_until_one_can(roots):
    board = LeaderboardFactory(dataset="pets", image="localhost/pets:1")
    job = JobFactory(leaderboard=board)
    worker(hostname="atlas", inventory={"images": []})
    worker(hostname="borea", inventory={"images": ["localhost/pets:1"]})
    told = waiting.waiting(job)
    assert (told.reason, told.expected_start) == (str(REASONS["dataset"]), None)
    ((only,)) = [unrunnable_jobs()]
    assert [(one.board, one.resource_class, one.jobs) for one in only] == [(board, "small", 1)]
    assert {host.hostname: host.lacks for host in only[0].hosts} == {
        "atlas": ["the data set pets", "the image localhost/pets:1"],
        "borea": ["the data set pets"],
    }
    worker(inventory={"images": ["localhost/pets:1"], "datasets": ["pets"]})
    assert waiting.waiting(job).reason == "It is next."
    assert unrunnable_jobs() == []


def test_worker_of_another_class_or_disabled_is_none_that_can(roots):
    job = JobFactory(leaderboard=LeaderboardFactory(dataset="pets"))
    WorkerFactory(state="idle", resource_classes=["medium"], inventory={"datasets": ["pets"]})
    row = worker(inventory={"datasets": ["pets"]})
    worker()
    assert unrunnable_jobs() == []
    Worker.objects.filter(pk=row.pk).update(disabled_at="2026-01-01T00:00Z")
    assert len(unrunnable_jobs()) == 1
    assert waiting.waiting(job).reason == str(REASONS["dataset"])
