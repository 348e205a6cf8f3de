"""Code of one release back goes on with the new schema: while an upgrade is under way, and when it must be taken back.

A migration that takes away, renames or demands what old code does not know would stop it. Such a change goes in two releases: first
the code that does without, then the migration, whose reason stands in ALLOWED.
"""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection, models
from django.db.migrations import AddConstraint, AddField, AlterField, CreateModel, Migration, RunSQL
from django.db.migrations import operations as known
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

OURS = ("accounts", "leaderboards", "submissions", "jobs")
GONE = (known.RemoveField, known.RenameField, known.DeleteModel, known.RenameModel, known.AlterModelTable)
WIDER = {
    ("CharField", "TextField"),
    ("PositiveSmallIntegerField", "PositiveIntegerField"),
    ("IntegerField", "BigIntegerField"),
}
# "app.migration: what": why old code bears it all the same, or why there is none.
ALLOWED = {
    "leaderboards.0003_standings_and_baselines: Add field rules to leaderboard: an INSERT that does not name it fails; give it "
    "a db_default": "no release came before it",
}


def objections(app: str, migration: Migration, before: ProjectState) -> Iterator[str]:
    """What old code would not bear, one sentence each."""
    state = before.clone()
    for operation in migration.operations:
        if isinstance(operation, GONE):
            yield operation.describe()
        elif isinstance(operation, AddField) and _demands(operation.field) and not _made_here(migration, operation):
            yield f"{operation.describe()}: an INSERT that does not name it fails; give it a db_default"
        elif isinstance(operation, AlterField):
            old = state.models[app, operation.model_name_lower].fields[operation.name]
            yield from (f"{operation.describe()}: {why}" for why in _narrower(old, operation.field))
        operation.state_forwards(app, state)


def _demands(field: models.Field) -> bool:
    return not (field.null or field.has_db_default() or field.many_to_many or field.primary_key)


def _made_here(migration: Migration, operation: AddField) -> bool:
    """A table that old code does not know demands nothing of it."""
    made = {one.name.lower() for one in migration.operations if isinstance(one, CreateModel)}
    return operation.model_name_lower in made


def _narrower(old: models.Field, new: models.Field) -> Iterator[str]:
    if old.null and not new.null:
        yield "no longer takes NULL"
    if old.has_db_default() and not new.has_db_default() and not new.null:
        yield "has lost its db_default"
    types = (old.get_internal_type(), new.get_internal_type())
    if types[0] != types[1]:
        if types not in WIDER:
            yield "has another type"
    elif new.max_length is not None and (old.max_length is None or new.max_length < old.max_length):
        yield "is shorter"


def first_release(name: str) -> bool:
    """The tables' first migrations, which nothing came before."""
    return name.startswith(("0001_", "0002_initial"))


@pytest.mark.django_db
def test_migrations_are_borne_by_the_code_of_one_release_back():
    loader = MigrationLoader(connection)
    found = []
    for app, name in sorted(loader.graph.nodes):
        if app in OURS and not first_release(name):
            migration = loader.graph.nodes[app, name]
            before = loader.project_state((app, name), at_end=False)
            found += [f"{app}.{name}: {what}" for what in objections(app, migration, before)]
    assert [one for one in found if one not in ALLOWED] == []
    assert [one for one in ALLOWED if one not in found] == []


def _before() -> ProjectState:
    state = ProjectState()
    fields = [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", models.CharField(max_length=20, null=True)),
        ("size", models.IntegerField(db_default=0)),
    ]
    CreateModel("Thing", fields).state_forwards("things", state)
    return state


@pytest.mark.parametrize(
    ("operation", "word"),
    [
        (known.RemoveField("thing", "name"), "Remove"),
        (known.RenameField("thing", "name", "title"), "Rename"),
        (known.DeleteModel("Thing"), "Delete"),
        (known.RenameModel("Thing", "Object"), "Rename"),
        (AddField("thing", "kind", models.CharField(max_length=9, default="")), "db_default"),
        (AlterField("thing", "name", models.CharField(max_length=20)), "NULL"),
        (AlterField("thing", "name", models.CharField(max_length=10, null=True)), "shorter"),
        (AlterField("thing", "size", models.IntegerField()), "lost"),
        (AlterField("thing", "size", models.CharField(max_length=9, db_default="")), "type"),
    ],
)
def test_what_old_code_would_not_bear_is_found(operation, word):
    [told] = list(objections("things", _migration(operation), _before()))
    assert word in told


@pytest.mark.parametrize(
    "operation",
    [
        AddField("thing", "kind", models.CharField(max_length=9, db_default="", default="")),
        AddField("thing", "kind", models.CharField(max_length=9, null=True)),
        AlterField("thing", "name", models.CharField(max_length=200, null=True)),
        AlterField("thing", "size", models.IntegerField(db_default=1, null=True)),
        AlterField("thing", "name", models.TextField(null=True)),
        CreateModel("Other", [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())]),
        RunSQL("SELECT 1"),
        AddConstraint("thing", models.CheckConstraint(condition=models.Q(size__gte=0), name="thing_size")),
    ],
)
def test_what_old_code_bears_is_let_pass(operation):
    assert list(objections("things", _migration(operation), _before())) == []


def _migration(operation) -> Migration:
    migration = Migration("0009_it", "things")
    migration.operations = [operation]
    return migration


def test_these_are_all_of_our_apps():
    ours = {name for name in settings.INSTALLED_APPS if (settings.BASE_DIR / name / "migrations").is_dir()}
    assert ours == set(OURS)
