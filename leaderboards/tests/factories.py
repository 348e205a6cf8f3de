"""Leaderboards for tests: `image_auc` ranks (higher is better), `seconds` is beside it (lower is better)."""

import factory

from leaderboards.models import Entry, Leaderboard, Metric, ScoreVersion, Standing
from leaderboards.scoring import BUILT_IN

DEFAULT_METRICS = [
    {"name": "image_auc", "label": "Image AUROC"},
    {"name": "seconds", "unit": "s", "direction": "lower"},
]


class MetricFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Metric

    leaderboard = factory.SubFactory("leaderboards.tests.factories.LeaderboardFactory", metrics=[])
    name = factory.Sequence(lambda n: f"metric_{n}")
    position = factory.Sequence(lambda n: n)


class LeaderboardFactory(factory.django.DjangoModelFactory):
    """`metrics=[{"name": ...}, ...]` gives other metrics than the two of the module, in their order."""

    class Meta:
        model = Leaderboard
        skip_postgeneration_save = True

    slug = factory.Sequence(lambda n: f"board-{n}")
    title = factory.Sequence(lambda n: f"Board {n}")

    @factory.post_generation
    def metrics(board, create, given):
        for position, fields in enumerate(DEFAULT_METRICS if given is None else given):
            MetricFactory(leaderboard=board, **{"position": position, **fields})


class ScoreVersionFactory(factory.django.DjangoModelFactory):
    """The current version of a scored leaderboard, of its scorer and labels."""

    class Meta:
        model = ScoreVersion
        skip_postgeneration_save = True

    number = 1
    scorer = factory.SelfAttribute("leaderboard.scorer")
    scorer_version = factory.LazyAttribute(lambda version: 1 if version.scorer in BUILT_IN else None)
    ground_truth = factory.SelfAttribute("leaderboard.ground_truth")
    ground_truth_digest = "0" * 64

    @factory.post_generation
    def is_current(version, create, given):
        if given is not False:
            version.leaderboard.score_version = version
            version.leaderboard.save(update_fields=["score_version"])


class EntryFactory(factory.django.DjangoModelFactory):
    """A person's entry with the completed job behind it and its open period; `score=` is the job's too."""

    class Meta:
        model = Entry
        skip_postgeneration_save = True

    score = 0.9
    leaderboard = factory.SubFactory(LeaderboardFactory)
    job = factory.SubFactory(
        "jobs.tests.factories.JobFactory",
        status="completed",
        leaderboard=factory.SelfAttribute("..leaderboard"),
        score=factory.SelfAttribute("..score"),
    )
    user = factory.SelfAttribute("job.user")
    submitted_at = factory.SelfAttribute("job.submission.created_at")

    @factory.post_generation
    def standing(entry, create, given):
        StandingFactory(
            job=entry.job, leaderboard=entry.leaderboard, score=entry.score, submitted_at=entry.submitted_at
        )


class StandingFactory(factory.django.DjangoModelFactory):
    """A period of a completed job as somebody's entry; `ended_at=None` (the default) is the present one."""

    class Meta:
        model = Standing

    score = 0.9
    leaderboard = factory.SubFactory(LeaderboardFactory)
    job = factory.SubFactory(
        "jobs.tests.factories.JobFactory",
        status="completed",
        leaderboard=factory.SelfAttribute("..leaderboard"),
        score=factory.SelfAttribute("..score"),
    )
    user = factory.SelfAttribute("job.user")
    submitted_at = factory.SelfAttribute("job.submission.created_at")
    began_at = factory.SelfAttribute("job.finished_at")
    metrics = factory.SelfAttribute("job.metrics")
    wall_seconds = factory.SelfAttribute("job.wall_seconds")
    peak_memory_bytes = factory.SelfAttribute("job.peak_memory_bytes")
