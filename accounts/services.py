"""Every write about users and their tokens, and the record of what operators did."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import connection, models, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from accounts.models import ApiToken, OperatorAction, User, default_lifetime, new_secret, token_digest
from accounts.refusals import Forbidden

_LOCK_PERSON = "SELECT is_active, submissions_per_hour, concurrent_jobs FROM lock_people(%s, waits => true)"


def create_token(user: User, *, name: str, lifetime: timedelta | None = None) -> tuple[ApiToken, str]:
    """A new token of the user and its secret, which exists nowhere else and cannot be shown again."""
    secret = new_secret()
    expires_at = timezone.now() + (lifetime or default_lifetime())
    token = ApiToken.objects.create(user=user, name=name, digest=token_digest(secret), expires_at=expires_at)
    return token, secret


def change_profile(user: User, *, name: str, email: str) -> None:
    """The name is kept as one: what is a first and what a last name differs from place to place."""
    user.first_name, user.last_name, user.email = name, "", email
    user.save(update_fields=["first_name", "last_name", "email"])


@sensitive_variables("password")
def change_password(user: User, password: str, *, end_tokens: bool) -> int:
    """Set the password, which ends every session of the user's (the caller keeps its own); how many tokens ended too."""
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        if not end_tokens:
            return 0
        # Those of an inactive user end too, although none of them is valid now.
        ended = user.api_tokens.active().count()
        user.api_tokens.filter(revoked_at=None).update(revoked_at=Now())
        return ended


def revoke_token(token: ApiToken) -> None:
    """End the token now; revoking twice keeps the first time."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now())


def record_action(
    by: User | None,
    action: str,
    objects: Iterable[models.Model],
    *,
    reason: str = "",
    details: dict[str, Any] | None = None,
) -> None:
    """Write down which operator (None: the command line) did what to which objects, and why: one row an object."""
    OperatorAction.objects.bulk_create(
        OperatorAction(
            user=by,
            username=by.username if by else "",
            action=action,
            reason=reason.strip(),
            kind=obj._meta.label_lower,
            object_id=str(obj.pk or ""),
            object_name=str(obj)[:200],
            details=details or {},
        )
        for obj in objects
    )


def set_quota(
    user: User,
    *,
    submissions_per_hour: int | None,
    concurrent_jobs: int | None,
    by: User | None = None,
    reason: str = "",
) -> None:
    """Give the user a quota of their own, and record it; None is the site's."""
    before = {"submissions_per_hour": user.submissions_per_hour, "concurrent_jobs": user.concurrent_jobs}
    after = {"submissions_per_hour": submissions_per_hour, "concurrent_jobs": concurrent_jobs}
    User.objects.filter(pk=user.pk).update(**after)
    user.submissions_per_hour, user.concurrent_jobs = submissions_per_hour, concurrent_jobs
    record_action(by, "change_quota", [user], reason=reason, details={"from": before, "to": after})


def lock_person(user: User) -> None:
    """Lock the user's row until the transaction ends, so that what their quotas count comes one at a time.

    An upload may have taken an hour: who was banned since it began is refused (Forbidden), and `user` gets the quotas of now.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_PERSON, [[user.pk]])
        row = cursor.fetchone()
    if row is None:
        raise User.DoesNotExist(f"user {user.pk}")
    is_active, user.submissions_per_hour, user.concurrent_jobs = row
    if not is_active:
        raise banned()


def banned() -> Forbidden:
    """Return the refusal of who was banned since the request began."""
    return Forbidden("forbidden", _("You may not do this."))


def shut_out(user: User) -> None:
    """The user can no longer sign in or call the API: inactive, tokens revoked. A session of theirs ends at its next
    request, because Django's backend gives no inactive user."""
    User.objects.filter(pk=user.pk).update(is_active=False)
    ApiToken.objects.filter(user=user, revoked_at=None).update(revoked_at=Now())


def let_in(user: User) -> None:
    """Undo `shut_out`, but for the tokens: their holder makes new ones."""
    User.objects.filter(pk=user.pk).update(is_active=True)
