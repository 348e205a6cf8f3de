"""Users, and the tokens with which their programs call the API."""

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

TOKEN_PREFIX = "lb_"  # noqa: S105 - so that a token found in a log or a repository can be told for what it is


class User(AbstractUser):
    """A participant, an organizer or an operator. Empty quotas mean the site's."""

    submissions_per_hour = models.PositiveIntegerField(_("submissions per hour"), null=True, blank=True)
    concurrent_jobs = models.PositiveIntegerField(_("jobs at once"), null=True, blank=True)

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
        """Neither revoked nor expired, by the database's clock."""
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=Now()))


class ApiToken(models.Model):
    """A bearer token. Only its SHA-256 is kept: the secret has 256 random bits, so a slow hash would add nothing."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.user}: {self.name}"


class LoginCounter(models.Model):
    """Failed logins of one account or from one address (accounts/throttle.py). Names are kept as digests only."""

    digest = models.CharField(max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    blocked_until = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        # The sweep of counters that are over.
        indexes = [models.Index("updated_at", name="login_counter_oldest")]


def token_digest(secret: str) -> str:
    """What is stored of a token, and how it is looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_secret() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def default_lifetime() -> timedelta:
    return timedelta(days=settings.TOKEN_DAYS)
