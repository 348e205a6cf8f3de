"""Versions of what produces a board's scores: scores of one version can be compared."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class ScoreVersion(models.Model):
    """A scorer, a ground truth and metric parameters by content, numbered within a leaderboard.

    The current one is `Leaderboard.score_version`; only an organizer changes it. An empty digest is one that no worker has
    told yet. Participants see the number alone: a digest of hidden labels would confirm guesses of them.
    """

    leaderboard = models.ForeignKey(
        "leaderboards.Leaderboard",
        verbose_name=_("leaderboard"),
        on_delete=models.CASCADE,
        related_name="score_versions",
    )
    number = models.PositiveIntegerField(_("number"))
    scorer = models.CharField(_("scorer"), max_length=120)
    scorer_version = models.PositiveSmallIntegerField(
        _("version of the scorer"), null=True, blank=True, help_text=_("Of a scorer that the platform brings.")
    )
    scorer_digest = models.CharField(
        _("digest of the scorer"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("SHA-256 of an own scorer's folder."),
    )
    ground_truth = models.CharField(_("ground truth"), max_length=200)
    ground_truth_digest = models.CharField(
        _("digest of the ground truth"), max_length=64, blank=True, default="", help_text=_("SHA-256 of its folder.")
    )
    parameters = models.JSONField(
        _("metric parameters"),
        default=dict,
        help_text=_("The significant digits that scores keep, and each metric's smallest and largest valid value."),
    )
    is_assumed = models.BooleanField(
        _("assumed"),
        default=False,
        help_text=_("Its scores are older than score versions: they are taken to be of the same scorer and labels."),
    )
    reason = models.TextField(_("reason"), blank=True, default="")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("by whom"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    chosen_at = models.DateTimeField(
        _("current since"),
        db_default=Now(),
        editable=False,
        help_text=_("When it last became the leaderboard's version."),
    )

    class Meta:
        verbose_name = _("score version")
        verbose_name_plural = _("score versions")
        ordering = ["leaderboard", "number"]
        constraints = [models.UniqueConstraint(fields=["leaderboard", "number"], name="score_version_once")]

    def __str__(self) -> str:
        return str(_("Score version %(number)d")) % {"number": self.number}

    @property
    def digits(self) -> int:
        """The number of significant digits that its scores keep."""
        return int(self.parameters.get("digits", settings.SCORING_DIGITS))

    @property
    def limits(self) -> dict[str, list[float | None]]:
        """Each metric's smallest and largest valid value, by the metric's name."""
        return dict(self.parameters.get("limits", {}))
