"""Leaderboards: what is measured and how, each person's best job, and what was best before."""

from collections.abc import Container

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.functional import Promise, cached_property
from django.utils.translation import gettext_lazy as _

from core.names import LONGEST_NAME, is_name, plain_name
from leaderboards.markdown import check_markdown
from leaderboards.operator_records import Disqualification, Pause
from leaderboards.score_versions import ScoreVersion
from leaderboards.scoring import folder_name, leaves, scorer_name

__all__ = ["Baseline", "Disqualification", "Entry", "Leaderboard", "Metric", "Pause", "ScoreVersion", "Standing"]

DEFAULT_SLUG = "default"
# Near the first and last times of PostgreSQL and Python, a time may have no date in a reader's zone.
FIRST_YEAR, LAST_YEAR = 2000, 2999
# [registry[:port]/]path[:tag][@digest], as podman and docker read it.
_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
image_name = RegexValidator(
    rf"\A(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?\Z",
    _("The name of a container image: [registry/]name[:tag][@sha256:digest]."),
)


def metric_name(value: str) -> None:
    """A validator: what a run's metrics.json may call a metric."""
    if value != plain_name(value) or not is_name(value):
        raise ValidationError(
            _("1 to %(most)d printable characters of any script (in NFC), without a space at either end."),
            params={"most": LONGEST_NAME},
        )


class LeaderboardQuerySet(models.QuerySet["Leaderboard"]):
    def visible_to(self, user: AbstractUser | AnonymousUser) -> "LeaderboardQuerySet":
        """Public ones for everybody; the ones for members to people signed in; hidden ones to operators who were given that."""
        if user.is_staff and user.has_perm("leaderboards.view_leaderboard"):
            return self.all()
        if user.is_authenticated:
            return self.filter(visibility__in=[Leaderboard.Visibility.PUBLIC, Leaderboard.Visibility.MEMBERS])
        return self.filter(visibility=Leaderboard.Visibility.PUBLIC)

    def open(self) -> "LeaderboardQuerySet":
        """Those that take submissions now, by the database's clock."""
        started = Q(opens_at=None) | Q(opens_at__lte=Now())
        return self.filter(started, Q(closes_at=None) | Q(closes_at__gt=Now()), takes_submissions=True, pause=None)

    def upcoming(self) -> "LeaderboardQuerySet":
        """Those that will open by themselves, the next one first."""
        return self.filter(opens_at__gt=Now(), takes_submissions=True).order_by("opens_at", "pk")


class Leaderboard(models.Model):
    class Visibility(models.TextChoices):
        PUBLIC = "public", _("everybody")
        MEMBERS = "members", _("people signed in")
        HIDDEN = "hidden", _("operators only")

    slug = models.SlugField(_("slug"), unique=True)
    title = models.CharField(_("title"), max_length=200)
    description = models.TextField(_("description"), blank=True, help_text=_("Markdown."))
    rules = models.TextField(_("rules"), blank=True, help_text=_("Markdown. Shown beside the description."))
    dataset = models.CharField(
        _("dataset"),
        max_length=200,
        blank=True,
        help_text=_("A folder below DATASET_ROOT, shown read-only to every run."),
    )
    image = models.CharField(
        _("container image"),
        max_length=255,
        blank=True,
        db_default="",
        validators=[image_name],
        help_text=_(
            "Runs happen in this image, on workers with EXECUTOR=container alone, which must have it already. "
            "Empty: on any worker, in its default."
        ),
    )
    scorer = models.CharField(
        _("scorer"),
        max_length=120,
        blank=True,
        db_default="",
        validators=[scorer_name],
        help_text=_(
            "Compares each run's predictions with the hidden labels; only its numbers rank. Empty: each run's own "
            "metrics.json ranks. One of anomaly_detection, classification, regression, or own/NAME for a folder below "
            "SCORER_ROOT."
        ),
    )
    ground_truth = models.CharField(
        _("ground truth"),
        max_length=200,
        blank=True,
        db_default="",
        validators=[folder_name],
        help_text=_("The hidden labels: a folder below GROUND_TRUTH_ROOT, which no run sees. Only with a scorer."),
    )
    score_version = models.ForeignKey(
        ScoreVersion,
        verbose_name=_("score version"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        help_text=_("Only scores of this version rank. Empty where runs report their own metrics."),
    )
    publishes_categories = models.BooleanField(
        _("publishes scores per category"),
        default=False,
        db_default=False,
        help_text=_(
            "Participants see what the scorer measured for each category, rounded. Otherwise operators alone do."
        ),
    )
    opens_at = models.DateTimeField(_("opens at"), null=True, blank=True)
    closes_at = models.DateTimeField(_("closes at"), null=True, blank=True)
    visibility = models.CharField(_("visibility"), max_length=16, choices=Visibility, default=Visibility.PUBLIC)
    is_draft = models.BooleanField(
        _("draft"),
        default=False,
        db_default=False,
        help_text=_("Only operators see a draft, and it takes no submissions."),
    )
    has_writable_code = models.BooleanField(
        _("writable code folder"),
        default=False,
        db_default=False,
        help_text=_("Every run gets its own copy of the code folder, which it may write to."),
    )
    takes_submissions = models.BooleanField(_("takes submissions"), default=True)
    requires_score = models.BooleanField(
        _("requires its metrics"),
        default=True,
        help_text=_(
            "A run without the ranking metric or another required one fails. Otherwise it completes, unranked."
        ),
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    objects = LeaderboardQuerySet.as_manager()

    class Meta:
        verbose_name = _("leaderboard")
        verbose_name_plural = _("leaderboards")
        ordering = ["title"]
        # The lists, and the admin's search by the beginning of a title.
        indexes = [
            models.Index("title", "id", name="leaderboard_by_title"),
            models.Index(fields=["title"], name="leaderboard_title_prefix", opclasses=["varchar_pattern_ops"]),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(visibility__in=["public", "members", "hidden"]), name="leaderboard_visibility_known"
            ),
            models.CheckConstraint(
                condition=Q(opens_at=None) | Q(closes_at=None) | Q(closes_at__gt=F("opens_at")),
                name="leaderboard_closes_after_opening",
            ),
            models.CheckConstraint(
                condition=Q(scorer="", ground_truth="") | (~Q(scorer="") & ~Q(ground_truth="")),
                name="leaderboard_scorer_has_ground_truth",
                violation_error_message=_("A scorer and a ground truth belong together: give both, or neither."),
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("leaderboard", args=[self.slug])

    def clean(self) -> None:
        problems: dict[str, ValidationError] = {}
        for name in ("description", "rules"):
            try:
                check_markdown(getattr(self, name))
            except ValidationError as error:
                problems[name] = error
        for name in ("opens_at", "closes_at"):
            moment = getattr(self, name)
            if moment is not None and not FIRST_YEAR <= moment.year <= LAST_YEAR:
                problems[name] = ValidationError(
                    _("The year must be between %(first)d and %(last)d, not %(found)d."),
                    code="bad_year",
                    params={"first": FIRST_YEAR, "last": LAST_YEAR, "found": moment.year},
                )
        if problems:
            raise ValidationError(problems)

    @cached_property
    def metric_list(self) -> "list[Metric]":
        """The metrics in their order; the first one ranks."""
        return list(self.metrics.all())

    def read_metrics(self) -> None:
        """Look `metric_list` up by a plain statement: a worker does once for each job, and building the query takes longer
        than the query."""
        columns = ", ".join(f'"{field.column}"' for field in Metric._meta.concrete_fields)
        found = Metric.objects.raw(
            f"SELECT {columns} FROM leaderboards_metric WHERE leaderboard_id = %s ORDER BY position, id",  # noqa: S608 - names of ours
            [self.pk],
        )
        self.metric_list = list(found)

    @property
    def current_standings(self) -> "models.QuerySet[Standing]":
        """The history of the current score version; that of others is kept for when it is current again."""
        return self.standings.filter(score_version=self.score_version_id)

    @property
    def is_scored(self) -> bool:
        """By the platform, on hidden labels; otherwise runs report their own numbers."""
        return bool(self.scorer)

    @property
    def what_to_leave(self) -> str | Promise:
        """What the scorer needs of a run, for people; empty where that is the organizer's to say."""
        return leaves(self.scorer)

    @property
    def ranking_metric(self) -> "Metric | None":
        return self.metric_list[0] if self.metric_list else None

    @property
    def required_metrics(self) -> "list[Metric]":
        """The metrics without which no run ranks: the ranking one first, and those that are marked."""
        return [metric for index, metric in enumerate(self.metric_list) if index == 0 or metric.is_required]

    def lacking_metrics(self, names: Container[str]) -> "list[Metric]":
        """Return the required metrics that are not among these names."""
        return [metric for metric in self.required_metrics if metric.name not in names]


class Metric(models.Model):
    """One column of a leaderboard: a number that runs leave in metrics.json under this name."""

    class Direction(models.TextChoices):
        HIGHER = "higher", _("higher is better")
        LOWER = "lower", _("lower is better")

    leaderboard = models.ForeignKey(
        Leaderboard, verbose_name=_("leaderboard"), on_delete=models.CASCADE, related_name="metrics"
    )
    name = models.CharField(_("name"), max_length=100, validators=[metric_name])
    label = models.CharField(_("label"), max_length=100, blank=True)
    unit = models.CharField(_("unit"), max_length=20, blank=True)
    direction = models.CharField(_("direction"), max_length=8, choices=Direction, default=Direction.HIGHER)
    minimum = models.FloatField(_("smallest valid value"), null=True, blank=True)
    maximum = models.FloatField(_("largest valid value"), null=True, blank=True)
    is_required = models.BooleanField(
        _("required"),
        default=False,
        db_default=False,
        help_text=_(
            "A run without it does not rank, and fails if the leaderboard requires its metrics. The ranking metric is "
            "always required."
        ),
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0, help_text=_("The first one ranks."))

    class Meta:
        verbose_name = _("metric")
        verbose_name_plural = _("metrics")
        ordering = ["position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["leaderboard", "name"], name="metric_once_a_leaderboard"),
            # Deferred, so that two metrics can swap their positions.
            models.UniqueConstraint(
                fields=["leaderboard", "position"],
                name="metric_position_once",
                deferrable=models.Deferrable.DEFERRED,
            ),
            models.CheckConstraint(condition=Q(direction__in=["higher", "lower"]), name="metric_direction_known"),
        ]

    def __str__(self) -> str:
        return self.label or self.name

    @property
    def higher_is_better(self) -> bool:
        return self.direction == self.Direction.HIGHER


class Entry(models.Model):
    """A person's best completed job on a leaderboard, written in the transaction that completes a job.

    The leaderboard page reads these alone: it costs the same however many jobs there are.
    """

    leaderboard = models.ForeignKey(
        Leaderboard, verbose_name=_("leaderboard"), on_delete=models.CASCADE, related_name="entries"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.CASCADE, related_name="entries"
    )
    job = models.OneToOneField("jobs.Job", verbose_name=_("job"), on_delete=models.CASCADE, related_name="entry")
    score = models.FloatField(_("score"))
    submitted_at = models.DateTimeField(
        _("submitted at"), help_text=_("When the code was submitted: the earlier stands first at equal scores.")
    )
    updated_at = models.DateTimeField(_("updated at"), db_default=Now())

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        constraints = [
            models.UniqueConstraint(fields=["leaderboard", "user"], name="entry_one_a_person"),
            # PostgreSQL sorts NaN above infinity, so this refuses NaN too.
            models.CheckConstraint(
                condition=Q(score__gt=float("-inf")) & Q(score__lt=float("inf")), name="entry_score_finite"
            ),
        ]
        indexes = [
            # The leaderboard page, best first: one index a direction, because ties are early-first in both.
            models.Index("leaderboard", F("score").desc(), "submitted_at", "id", name="entry_highest_first"),
            models.Index("leaderboard", F("score").asc(), "submitted_at", "id", name="entry_lowest_first"),
            # The admin's list of one leaderboard.
            models.Index("leaderboard", F("id").desc(), name="entry_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.leaderboard}: {self.user} {self.score}"


class Standing(models.Model):
    """A period in which one job was its person's entry: the history of `Entry`, written in the same transaction.

    The open period (`ended_at` empty) is the entry's. A past board is the periods that hold that moment, so ranking a
    past board costs what ranking the present one does. What was shown is copied, because retention deletes a job that
    is no entry any more; its periods stay, with an empty `job`.
    """

    leaderboard = models.ForeignKey(Leaderboard, on_delete=models.CASCADE, related_name="standings")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="standings")
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="standings")
    score = models.FloatField()
    # Whose scores these are when the job is gone: the history of another version is kept, and not shown.
    score_version = models.ForeignKey(
        ScoreVersion, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    submitted_at = models.DateTimeField()
    metrics = models.JSONField(default=dict)
    wall_seconds = models.FloatField(null=True)
    peak_memory_bytes = models.BigIntegerField(null=True)
    began_at = models.DateTimeField(help_text=_("When the job completed."))
    ended_at = models.DateTimeField(null=True, help_text=_("When a better job of the same person took its place."))

    class Meta:
        verbose_name = _("standing")
        verbose_name_plural = _("standings")
        constraints = [
            models.UniqueConstraint(
                fields=["leaderboard", "user"], condition=Q(ended_at=None), name="standing_one_open_a_person"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("began_at")), name="standing_ends_after_beginning"
            ),
            models.CheckConstraint(
                condition=Q(score__gt=float("-inf")) & Q(score__lt=float("inf")), name="standing_score_finite"
            ),
        ]
        indexes = [
            # A past board, best first: one index a direction, as for entries.
            models.Index("leaderboard", F("score").desc(), "submitted_at", "id", name="standing_highest_first"),
            models.Index("leaderboard", F("score").asc(), "submitted_at", "id", name="standing_lowest_first"),
            # What changed lately.
            models.Index("leaderboard", F("began_at").desc(), name="standing_latest"),
            # A person's steps.
            models.Index("leaderboard", "user", "began_at", name="standing_by_person"),
            # The rows that refer to a score version, before it is deleted.
            models.Index("score_version", condition=Q(score_version__isnull=False), name="standing_by_version"),
        ]

    def __str__(self) -> str:
        return f"{self.leaderboard_id}: {self.user_id} {self.score}"


class Baseline(models.Model):
    """A person whose entry on a board is a reference to beat: shown in its place, marked, without a rank."""

    MOST = 20  # on one board

    leaderboard = models.ForeignKey(
        Leaderboard, verbose_name=_("leaderboard"), on_delete=models.CASCADE, related_name="baselines"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.CASCADE, related_name="baselines"
    )
    label = models.CharField(_("label"), max_length=100, blank=True, help_text=_("Shown instead of the name."))

    class Meta:
        verbose_name = _("baseline")
        verbose_name_plural = _("baselines")
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["leaderboard", "user"], name="baseline_once_a_person")]

    def __str__(self) -> str:
        return self.label or str(self.user)
