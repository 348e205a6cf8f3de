"""A submission's name: what is taken, and what a site from before makes of the names in the metadata."""

from importlib import import_module

import pytest
from django.apps import apps

from accounts.refusals import InvalidInput
from submissions.models import Submission
from submissions.services import check_name
from submissions.tests.factories import SubmissionFactory

migration = import_module("submissions.migrations.0005_names_from_metadata")
TAKEN = {
    "": "",
    "PatchCore": "PatchCore",
    "  a  b ": "a b",
    "画像\u3000異常": "画像 異常",
    "か\u3099": "が",
    "x" * 100: "x" * 100,
}
REFUSED = {
    "x" * 101: "at most 100 characters, not 101",
    "x" * 5000: "not 5000",
    "a\nb": r"U\+000A",
    "a\x1bb": r"U\+001B",
    "a\u202eb": r"U\+202E",
    "a\ud800": r"U\+D800",
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_is_kept_in_one_spelling(name):
    assert check_name(name) == TAKEN[name]
    assert migration.spelled(name) == TAKEN[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_is_one_visible_line_within_bounds(name):
    with pytest.raises(InvalidInput, match=REFUSED[name]) as refused:
        check_name(name)
    assert (refused.value.code, refused.value.field) == ("bad_name", "name")
    assert migration.spelled(name) == ""


@pytest.mark.django_db
def test_names_that_clients_kept_in_the_metadata_become_names():
    given = [{"name": " first "}, {"name": "x" * 101}, {"name": 7}, {"title": "a"}, {}, {"name": "other"}]
    made = [SubmissionFactory(metadata=metadata) for metadata in given]
    Submission.objects.filter(pk=made[5].pk).update(name="its own")
    migration.take_names(apps, None)
    rows = {row.pk: (row.name, row.metadata) for row in Submission.objects.all()}
    names = ["first", "", "", "", "", "its own"]
    assert [rows[one.pk] for one in made] == list(zip(names, given, strict=True))
