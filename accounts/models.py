"""Users, the tokens with which their programs call the API, and what operators did."""

import hashlib
import secrets
import uuid
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Collate, Now, Upper
from django.utils.translation import gettext_lazy as _

from accounts.names import TAKEN, USERNAME_SHAPE, display_name, name_shape

# The prefixes let programs recognise a secret in a log or a repository (accounts/masking.py).
TOKEN_PREFIX = "lb_"  # noqa: S105
INVITATION_PREFIX = "lbi_"


class PeopleManager(UserManager["User"]):
    """Django's manager. It refuses names that look like another's."""

    use_in_migrations = False

    def resembling(self, username: str) -> models.QuerySet["User"]:
        """Return the users with this name or one that looks like it."""
        return self.alias(shape=USERNAME_SHAPE).filter(shape=name_shape(username))

    def create_superuser(self, username: str, *args: Any, **fields: Any) -> "User":
        """Create a superuser, as the command `createsuperuser` does. Raises ValidationError if the name is taken."""
        self.model(username=username).refuse_lookalike()
        return super().create_superuser(username, *args, **fields)


class User(AbstractUser):
    """A participant, an organizer or an operator. Empty quotas mean the site's."""

    # Names that looked alike before `user_name_looks_alone` existed stay valid as long as they are not changed.
    kept_username = models.CharField(_("earlier username"), max_length=150, blank=True, db_default="", editable=False)

    submissions_per_hour = models.PositiveIntegerField(_("submissions per hour"), null=True, blank=True)
    concurrent_jobs = models.PositiveIntegerField(_("jobs at once"), null=True, blank=True)

    objects: ClassVar[PeopleManager] = PeopleManager()

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                USERNAME_SHAPE, condition=~Q(kept_username=F("username")), name="user_name_looks_alone"
            ),
        ]
        indexes = [
            # The admin's search by the beginning of an address.
            models.Index(fields=["email"], name="user_email", opclasses=["varchar_pattern_ops"]),
            # The admin's search by the beginning of a display name. Collated as bytes, it serves LIKE.
            models.Index(Collate(Upper("first_name"), "C"), name="user_display_name"),
            # The admin's filters: the few among the many.
            models.Index("username", condition=Q(is_staff=True), name="user_staff"),
            models.Index("username", condition=Q(is_active=False), name="user_banned"),
            # The search for a name or one that looks like it, those from before the constraint included.
            models.Index(USERNAME_SHAPE, name="user_name_shape"),
        ]

    def clean(self) -> None:
        super().clean()
        self.refuse_lookalike()

    def refuse_lookalike(self) -> None:
        """Raise ValidationError if another user has this name or one that looks like it. A name that stays is valid."""
        if not self._state.adding and User.objects.filter(pk=self.pk, username=self.username).exists():
            return
        if User.objects.resembling(self.username).exclude(pk=self.pk).exists():
            raise ValidationError({"username": TAKEN[:1].upper() + TAKEN[1:]}, code="taken_username")

    @property
    def display_name(self) -> str:
        """The name that people see: the one that the user chose, or else the username."""
        return display_name(self.username, self.first_name, self.last_name)

    @property
    def full_label(self) -> str:
        """The name that operators see: the chosen one with the username, which alone identifies the person."""
        return self.username if self.display_name == self.username else f"{self.display_name} ({self.username})"

    @property
    def submission_quota(self) -> int:
        """Submissions that this user may make in any sliding hour."""
        return settings.SUBMISSIONS_PER_HOUR if self.submissions_per_hour is None else self.submissions_per_hour

    @property
    def job_quota(self) -> int:
        """Jobs that this user may have pending or running at once."""
        return settings.CONCURRENT_JOBS if self.concurrent_jobs is None else self.concurrent_jobs


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def active(self) -> "ApiTokenQuerySet":
        """Valid now: neither revoked nor expired, of an active user (accounts/migrations/0010_live_token.sql)."""
        return self.filter(pk__in=RawSQL("SELECT id FROM live_token", ()))


class ApiToken(models.Model):
    """A bearer token. Only its SHA-256 is kept: the secret has 256 random bits, so a slow hash would add nothing."""

    user = models.ForeignKey(User, verbose_name=_("user"), on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    digest = models.CharField(_("digest"), max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-created_at"]
        # The admin's list, newest first.
        indexes = [models.Index(F("created_at").desc(), F("id").desc(), name="token_newest")]

    def __str__(self) -> str:
        return f"{self.user}: {self.name}"


class OperatorAction(models.Model):
    """Who did what to which object, when and why: one row an object, never changed. The one place to read it."""

    # What objects there are, for a search by an id alone.
    KINDS = (
        "jobs.job", "jobs.worker", "accounts.user", "accounts.apitoken", "auth.group", "leaderboards.leaderboard",
        "leaderboards.pause", "submissions.submission",
    )  # fmt: skip

    user = models.ForeignKey(User, verbose_name=_("user"), on_delete=models.SET_NULL, null=True, related_name="+")
    # Stays when the account goes; "" is the command line.
    username = models.CharField(_("operator"), max_length=150, blank=True)
    action = models.CharField(_("action"), max_length=40)
    reason = models.TextField(_("reason"), blank=True)
    kind = models.CharField(_("kind"), max_length=60, help_text=_("The object's model, such as jobs.job."))
    object_id = models.CharField(_("object"), max_length=64, blank=True)
    object_name = models.CharField(_("name"), max_length=200, blank=True)
    details = models.JSONField(_("details"), default=dict, blank=True)
    created_at = models.DateTimeField(_("when"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("operator's action")
        verbose_name_plural = _("what operators did")
        ordering = ["-id"]
        indexes = [
            models.Index("kind", "object_id", F("id").desc(), name="action_by_object"),  # an object's page
            models.Index("username", F("id").desc(), name="action_by_operator"),  # the list's search
            models.Index("action", F("id").desc(), name="action_by_action"),  # the list's filter
        ]

    def __str__(self) -> str:
        from accounts.operations import in_words  # which imports this module

        return f"{self.username or '-'}: {in_words(self.action)} {self.object_name}"


class Operation(models.Model):
    """An action on a set of objects: planned (what the preview shows), confirmed, then carried out in small steps.

    The set is fixed when it is planned, so that what was previewed is what is done (accounts/operations.py).
    """

    class State(models.TextChoices):
        PLANNED = "planned", _("planned")
        RUNNING = "running", _("under way")
        DONE = "done", _("done")

    id = models.UUIDField("ID", primary_key=True, default=uuid.uuid4, editable=False)
    action = models.CharField(_("action"), max_length=40)
    object_ids = models.JSONField(_("IDs of the objects"), default=list)
    total = models.PositiveIntegerField(_("objects"), default=0)
    parameters = models.JSONField(_("parameters"), default=dict)
    reason = models.TextField(_("reason"), blank=True)
    user = models.ForeignKey(User, verbose_name=_("operator"), on_delete=models.CASCADE, related_name="+")
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.PLANNED)
    position = models.PositiveIntegerField(
        _("gone through"), default=0, help_text=_("How many of the objects have been gone through.")
    )
    done = models.PositiveIntegerField(_("done"), default=0)
    refused = models.PositiveIntegerField(_("refused"), default=0)
    refusals = models.JSONField(_("refusals"), default=list, help_text=_("The first refusals, in words."))
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(position__lte=F("total")), name="operation_position_within"),
            models.CheckConstraint(
                condition=Q(state="done", finished_at__isnull=False) | (~Q(state="done") & Q(finished_at=None)),
                name="operation_done_has_end",
            ),
        ]
        indexes = [
            # What is under way, oldest first.
            models.Index("created_at", condition=Q(state="running"), name="operation_running"),
            # The sweep of old ones.
            models.Index("created_at", name="operation_oldest"),
        ]

    def __str__(self) -> str:
        from accounts.operations import in_words

        return f"{in_words(self.action)} ({self.total})"


class LoginCounter(models.Model):
    """Failed logins that count together (accounts/throttle.py). Names and addresses are stored only as digests."""

    digest = models.CharField(max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    blocked_until = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("failed logins")
        verbose_name_plural = _("failed logins")
        # The sweep of counters that are over.
        indexes = [models.Index("updated_at", name="login_counter_oldest")]


class KnownLogin(models.Model):
    """An address or a browser where a person signed in (accounts/throttle.py), stored as a digest that includes the account."""

    digest = models.CharField(max_length=64, primary_key=True)
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("known login")
        verbose_name_plural = _("known logins")
        # For the sweep of old ones.
        indexes = [models.Index("seen_at", name="known_login_oldest")]


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> "InvitationQuerySet":
        """Neither used nor expired, by the database's clock."""
        return self.filter(used_at=None, expires_at__gt=Now())


class Invitation(models.Model):
    """Lets one person make an account (accounts/signing_up.py). Only its SHA-256 is kept, as of a token."""

    digest = models.CharField(max_length=64, unique=True, editable=False)
    note = models.CharField(_("note"), max_length=200, blank=True, help_text=_("Whom it is for; operators see it."))
    created_by = models.ForeignKey(
        User, verbose_name=_("made by"), on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    expires_at = models.DateTimeField(_("expires at"))
    used_at = models.DateTimeField(_("used at"), null=True, blank=True)
    used_by = models.ForeignKey(
        User, verbose_name=_("used by"), on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(used_at__isnull=False) | Q(used_by=None), name="invitation_used_by_has_time"
            ),
        ]

    def __str__(self) -> str:
        return self.note or f"#{self.pk}"


def new_invitation_secret() -> str:
    return INVITATION_PREFIX + secrets.token_urlsafe(24)


def token_digest(secret: str) -> str:
    """What is stored of a token, and how it is looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_secret() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def default_lifetime() -> timedelta:
    return timedelta(days=settings.TOKEN_DAYS)
