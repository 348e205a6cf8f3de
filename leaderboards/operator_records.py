"""What operators have decided: jobs that do not count, and what is paused."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Disqualification(models.Model):
    """A completed job that does not count, and why. Its person's next best counts instead, also after a rebuild."""

    job = models.OneToOneField(
        "jobs.Job", verbose_name=_("job"), on_delete=models.CASCADE, primary_key=True, related_name="disqualification"
    )
    reason = models.TextField(_("reason"))
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("by whom"), on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(_("when"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("disqualification")
        verbose_name_plural = _("disqualifications")
        constraints = [models.CheckConstraint(condition=~Q(reason=""), name="disqualification_has_reason")]
        indexes = [models.Index(F("created_at").desc(), name="disqualification_newest")]  # the admin's list

    def __str__(self) -> str:
        return str(self.job_id)


class Pause(models.Model):
    """While the row stands, no job of the leaderboard is started, and it takes no submissions and no jobs.

    Without a leaderboard it is the whole queue that waits; submissions and jobs are still taken then.
    """

    leaderboard = models.OneToOneField(
        "leaderboards.Leaderboard",
        verbose_name=_("leaderboard"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="pause",
    )
    reason = models.TextField(_("reason"))
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("by whom"), on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(_("since"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("pause")
        verbose_name_plural = _("pauses")
        constraints = [
            # The column's own uniqueness lets several rows without a leaderboard stand.
            models.UniqueConstraint(fields=["leaderboard"], nulls_distinct=False, name="pause_once"),
            models.CheckConstraint(condition=~Q(reason=""), name="pause_has_reason"),
        ]

    def __str__(self) -> str:
        return str(self.leaderboard or _("the whole queue"))
