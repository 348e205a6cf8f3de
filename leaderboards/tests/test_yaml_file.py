"""A leaderboard as one file and back; every mistake in a file named by field, rule and value."""

import random
from datetime import UTC, datetime

import pytest
import yaml
from django.db import models

from jobs.tests.factories import JobFactory
from leaderboards.models import Entry, Leaderboard, Metric, Standing
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from leaderboards.yaml_file import (
    AlreadyThere,
    WrongFile,
    dump,
    export_leaderboard,
    file_fields,
    import_leaderboard,
    read_file,
)

pytestmark = pytest.mark.django_db
FILE = """\
leadersboard: 1
slug: bottles
title: "Bottles: 1"
metrics:
  - name: image_auc
    minimum: 0
    maximum: 1.0
  - {name: seconds, direction: lower, unit: s}
"""


def everything(leaderboard):
    """All that the file speaks of."""
    board = {field.name: field.value_from_object(leaderboard) for field in file_fields(Leaderboard)}
    metrics = [
        {field.name: field.value_from_object(metric) for field in file_fields(Metric)}
        for metric in Leaderboard.objects.get(pk=leaderboard.pk).metrics.all()
    ]
    return board, metrics


def full_board():
    return LeaderboardFactory(
        slug="full",
        title="A: 'title' # with signs, 日本語",
        description="# Head\n\n- one\n- two: `x`\n",
        rules="no\n",
        dataset="mvtec/bottle",
        opens_at=datetime(2026, 11, 1, 9, tzinfo=UTC),
        closes_at=datetime(2027, 1, 31, 9, 30, 0, 123456, tzinfo=UTC),
        visibility="members",
        takes_submissions=False,
        requires_score=False,
        has_writable_code=True,
        metrics=[
            {"name": "seconds", "label": "yes", "unit": "s", "direction": "lower", "minimum": 0.0},
            {"name": "image_auc", "label": "1.0", "maximum": 1e300},
        ],
    )


def test_there_and_back_changes_nothing():
    board = full_board()
    before, text = everything(board), export_leaderboard(board)
    copy, is_new = import_leaderboard(text, slug="copy")
    assert (is_new, everything(copy)) == (True, (before[0] | {"slug": "copy"}, before[1]))
    assert export_leaderboard(copy) == text.replace("slug: full", "slug: copy")
    Leaderboard.objects.filter(pk=board.pk).update(title="x", rules="", visibility="hidden")
    board.metrics.all().delete()
    again, is_new = import_leaderboard(text, replace=True)
    assert (is_new, again.pk, everything(again)) == (False, board.pk, before)


def test_the_file_reads_well():
    lines = export_leaderboard(full_board()).splitlines()
    assert lines[:2] == ["leadersboard: 1", "slug: full"]
    assert lines[lines.index("description: |") + 1] == "  # Head"
    assert "  - name: seconds" in lines


TEXTS = [
    "a \nb\n", "a\tb\n\tc", " a\n  b\n", "\n\na\n", "a\n\n\n", "\n", " \n", "\t\n ", "a\n ", "  \n a\nb  ", "a\r\nb\r\n c\r\n",
    "a\rb\n", "日本\n😀 \n", "a\x85b\u2028c\n d", "\ufeffa\n", "# a: b\n- c\n---\n...\n", "a\n'\"\\\n\\n", "x" * 300 + "\n" + "y " * 200,
    "a\x7f\n\tb",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_text_of_several_lines_comes_back_exactly_and_has_its_lines_in_the_file(text):
    board = LeaderboardFactory(slug="b", description=text, rules=text)
    written = export_leaderboard(board)
    values = read_file(written)[0]
    assert (values["description"], values["rules"]) == (text, text)
    assert written.count("\n") >= 2 * (text.count("\n") - 1)
    for line in text.splitlines():
        assert line.isascii() is False or not line.isprintable() or not line.isalpha() or line in written


def test_random_text_comes_back_exactly():
    chance = random.Random(1)
    signs = " \n\t\ra#:-'\"\\|>é日\u3000\x85\u2028\ufeff😀"
    for _ in range(300):
        text = "".join(chance.choices(signs, k=chance.randint(1, 12)))
        assert yaml.safe_load(dump({"metrics": [{"label": text}], "rules": text})) == {
            "metrics": [{"label": text}],
            "rules": text,
        }, repr(text)


def test_a_file_is_readable_with_spaces_at_the_ends_of_lines_and_crlf():
    board = LeaderboardFactory(slug="b", description="one  \ntwo\n\tthree", rules="one\r\n two\r\n")
    text = export_leaderboard(board)
    assert "description: |-\n  one  \n  two\n  \tthree\n" in text
    assert 'rules: "one\\r\\n\\\n  \\ two\\r\\n"\n' in text


def test_every_editable_field_is_in_the_file():
    """A field that is added to a leaderboard and is no plain value must be given its place here."""
    for model, elsewhere in ((Leaderboard, set()), (Metric, {"leaderboard", "position"})):
        editable = {field.name for field in model._meta.concrete_fields if field.editable and not field.primary_key}
        assert editable - elsewhere == {field.name for field in file_fields(model)}


def test_a_small_file_is_enough():
    board, is_new = import_leaderboard(FILE)
    assert (is_new, board.title, board.visibility, board.takes_submissions) == (True, "Bottles: 1", "public", True)
    assert [(metric.name, metric.direction, metric.maximum) for metric in board.metrics.all()] == [
        ("image_auc", "higher", 1.0),
        ("seconds", "lower", None),
    ]


def test_one_that_exists_is_changed_only_when_asked():
    import_leaderboard(FILE)
    with pytest.raises(AlreadyThere) as refused:
        import_leaderboard(FILE.replace("Bottles: 1", "New"))
    assert (refused.value.status, refused.value.message[:22]) == (409, "slug: there is bottles")
    assert Leaderboard.objects.get(slug="bottles").title == "Bottles: 1"
    import_leaderboard(FILE.replace("Bottles: 1", "New"), replace=True)
    assert Leaderboard.objects.get(slug="bottles").title == "New"


def test_another_ranking_metric_ranks_again_and_metrics_keep_their_rows():
    board = LeaderboardFactory(slug="bottles", metrics=[{"name": "image_auc"}, {"name": "seconds"}])
    ids = dict(board.metrics.values_list("name", "pk"))
    best = EntryFactory(leaderboard=board, score=0.9)
    JobFactory(leaderboard=board, user=best.user, submission=best.job.submission, status="completed", score=0.1)
    text = export_leaderboard(board).replace("direction: higher", "direction: lower")
    import_leaderboard(text, replace=True)
    assert Entry.objects.get(user=best.user).score == 0.1
    assert dict(board.metrics.values_list("name", "pk")) == ids


def test_by_another_metric_entries_are_what_it_measured():
    board = LeaderboardFactory(slug="bottles")
    entry = EntryFactory(leaderboard=board, score=0.9)
    quick = JobFactory(
        leaderboard=board, user=entry.user, status="completed", metrics={"image_auc": 0.1, "seconds": 2.0}
    )
    without = EntryFactory(leaderboard=board, job__metrics={"image_auc": 0.9})
    board.metrics.filter(name="image_auc").update(position=9)
    text = export_leaderboard(Leaderboard.objects.get(pk=board.pk))
    board.metrics.filter(name="image_auc").update(position=0)
    import_leaderboard(text, replace=True)
    assert list(Entry.objects.values_list("user", "job", "score")) == [(entry.user.pk, quick.pk, 2.0)]
    assert not Standing.objects.filter(user=without.user).exists()
    assert list(Standing.objects.filter(user=entry.user, ended_at=None).values_list("job", "score")) == [
        (quick.pk, 2.0)
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("leadersboard: 1", "leadersboard: 2"), "leadersboard: must be 1, the version that this site reads, not 2."),
        (("leadersboard: 1\n", ""), "must be a mapping that begins with"),
        (("slug: bottles", "slug: a b"), "slug: "),
        (("slug: bottles", "slug: 7"), "slug: must be text, not 7."),
        (("slug: bottles\n", ""), "slug: is missing."),
        (("slug: bottles", f"slug: {'a' * 60}"), "slug: Ensure this value has at most 50"),
        (("slug: bottles", "slug: bottles\nslug: b"), "'slug' stands twice"),
        (("slug: bottles", "slug: &a bottles\ndataset: *a"), "aliases"),
        (("slug: bottles", "slug: bottles\ncolour: red"), "'colour': is no field; known are slug, title"),
        (("slug: bottles", "slug: bottles\nopens_at: tomorrow"), "opens_at: must be a time with its zone"),
        (("slug: bottles", "slug: bottles\nopens_at: 2027-01-01 09:00:00"), "opens_at: must be a time with its zone"),
        (("slug: bottles", "slug: bottles\ntakes_submissions: 1"), "takes_submissions: must be true or false, not 1."),
        (("slug: bottles", "slug: bottles\nvisibility: secret"), "visibility: Value 'secret' is not a valid choice."),
        (("slug: bottles", "slug: bottles\nid: 7"), "'id': is no field"),
        (("direction: lower", "direction: up"), "metrics[1].direction: Value 'up' is not a valid choice."),
        (("name: seconds", "name: 'a b '"), "metrics[1].name: 1 to 100 printable characters of any script"),
        (("name: seconds", "name: image_auc"), "metrics: the name 'image_auc' stands twice."),
        (("minimum: 0", "minimum: low"), "metrics[0].minimum: must be a number, not 'low'."),
        (("minimum: 0", "minimum: true"), "metrics[0].minimum: must be a number, not True."),
        (("minimum: 0", "minimum: 2"), "metrics[0].minimum: must not exceed maximum 1.0, not 2."),
        (("  - name: image_auc\n", "  - 7\n  - name: image_auc\n"), "metrics[0]: must be a mapping with a name, not 7."),
        (("title:", "title: !!python/object/apply:os.system [id]\nx:"), "not valid YAML"),
        (("title:", "title: ["), "not valid YAML"),
        (("slug: bottles", "slug: bottles\nopens_at: 2027-01-02T00:00:00Z\ncloses_at: 2027-01-01T00:00:00Z"), "closes"),
    ],
    ids=range(24),
)  # fmt: skip
def test_a_mistake_is_named_and_nothing_is_made(change, told):
    with pytest.raises(WrongFile) as refused:
        import_leaderboard(FILE.replace(*change))
    assert told in refused.value.message
    assert not Leaderboard.objects.filter(slug__startswith="bottle").exists()


def test_all_mistakes_are_told_at_once():
    with pytest.raises(WrongFile) as refused:
        import_leaderboard("leadersboard: 1\nslug: 7\ncolour: red\nmetrics: {}\n")
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["slug", "'colour'", "title"]


@pytest.mark.parametrize("text", ["", "7", "- a", "a: " + "[" * 5000, "\x00", "leadersboard: 1\n" + "#" * 1024 * 1024])
def test_rubbish_is_refused(text):
    with pytest.raises(WrongFile):
        import_leaderboard(text)


def test_the_kinds_of_fields_are_as_the_file_takes_them():
    assert all(isinstance(field, models.Field) for field in file_fields(Leaderboard))
    assert yaml.safe_load(export_leaderboard(full_board()))["opens_at"] == datetime(2026, 11, 1, 9, tzinfo=UTC)


def test_entries_are_computed_again_when_another_metric_becomes_required():
    entry = EntryFactory(job__metrics={"image_auc": 0.9})
    text = export_leaderboard(entry.leaderboard)
    import_leaderboard(text.replace("name: seconds\n", "name: seconds\n    is_required: true\n"), replace=True)
    assert not Entry.objects.exists()
    import_leaderboard(text, replace=True)
    assert Entry.objects.get().job_id == entry.job_id
