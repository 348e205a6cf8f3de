"""Submissions: uploaded code, immutable once accepted."""

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Collate, Now, Upper
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from leaderboards.models import Leaderboard

NAME_MAX_LENGTH = 100


class SubmissionQuerySet(models.QuerySet["Submission"]):
    def visible_to(self, user: AbstractUser | AnonymousUser) -> "SubmissionQuerySet":
        """A person's own; operators who were given that see all."""
        if user.is_staff and user.has_perm("submissions.view_submission"):
            return self.all()
        return self.filter(user=user) if user.is_authenticated else self.none()


class Submission(models.Model):
    class Kind(models.TextChoices):
        ZIP = "zip", "zip"
        TAR_GZ = "tar.gz", "tar.gz"
        TAR = "tar", _("single files")

    id = models.UUIDField("ID", primary_key=True, default=uuid.uuid4, editable=False)
    # Without indexes of their own: submission_by_user and submission_by_board serve.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.PROTECT,
        related_name="submissions",
        db_index=False,
    )
    leaderboard = models.ForeignKey(
        Leaderboard, verbose_name=_("leaderboard"), on_delete=models.PROTECT, related_name="submissions", db_index=False
    )
    # Empty: shown as its entrypoint and the beginning of its id (`label`).
    name = models.CharField(_("name"), max_length=NAME_MAX_LENGTH, blank=True, default="", db_default="")
    entrypoint = models.CharField(_("entrypoint"), max_length=100, default="main.py")
    config_file = models.CharField(_("config file"), max_length=100, default="config.yaml")
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind)
    object_name = models.CharField(_("stored as"), max_length=200, unique=True)
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"))
    sha256 = models.CharField("SHA-256", max_length=64)
    root_folder = models.CharField(
        _("root folder"), max_length=240, blank=True, help_text=_("The folder that wraps everything in the archive.")
    )
    manifest = models.JSONField(_("files"), default=list)
    has_writable_code = models.BooleanField(
        _("writable code folder"),
        default=False,
        db_default=False,
        help_text=_("The run gets its own copy of the code folder, which it may write to."),
    )
    # The key of the page's form that it came from: a second click on Submit finds it. Empty: not from a form.
    form_key = models.CharField(_("form key"), max_length=64, blank=True, default="", db_default="", editable=False)
    deleted_at = models.DateTimeField(
        _("deleted at"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Its owner deleted the files and the results of its jobs."),
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    objects = SubmissionQuerySet.as_manager()

    class Meta:
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["zip", "tar.gz", "tar"]), name="submission_kind_known"),
            models.UniqueConstraint("user", "form_key", condition=~Q(form_key=""), name="submission_form_key_once"),
        ]
        indexes = [
            # A person's submissions, newest first, and how many they made in the last hour.
            models.Index("user", F("created_at").desc(), F("id").desc(), name="submission_by_user"),
            # The admin's list, newest first.
            models.Index(F("created_at").desc(), F("id").desc(), name="submission_newest"),
            # The admin's list of one leaderboard, and its search by a file's hash.
            models.Index("leaderboard", F("created_at").desc(), F("id").desc(), name="submission_by_board"),
            models.Index("sha256", name="submission_by_hash"),
            # The admin's search by the beginning of a name. Collated as bytes, it serves LIKE.
            models.Index(Collate(Upper("name"), "C"), condition=~Q(name=""), name="submission_by_name"),
            # A leaderboard's page: what its people deleted lately.
            models.Index(
                "leaderboard", F("deleted_at").desc(), condition=Q(deleted_at__isnull=False), name="submission_deleted"
            ),
            # The reconciler: deleted ones whose files are still to be removed.
            models.Index(
                "deleted_at", condition=Q(deleted_at__isnull=False) & ~Q(size_bytes=0), name="submission_to_remove"
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    def get_absolute_url(self) -> str:
        return reverse("submission", args=[self.id])

    @property
    def label(self) -> str:
        """What people see wherever the submission appears: its name, or its entrypoint with the beginning of its id."""
        return self.name or f"{self.entrypoint} {str(self.pk)[:8]}"
