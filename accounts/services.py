"""Every write about users and their tokens."""

from datetime import timedelta

from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import ApiToken, User, default_lifetime, new_secret, token_digest


def create_token(user: User, *, name: str, lifetime: timedelta | None = None) -> tuple[ApiToken, str]:
    """A new token of the user and its secret, which exists nowhere else and cannot be shown again."""
    secret = new_secret()
    expires_at = timezone.now() + (lifetime or default_lifetime())
    token = ApiToken.objects.create(user=user, name=name, digest=token_digest(secret), expires_at=expires_at)
    return token, secret


def revoke_token(token: ApiToken) -> None:
    """End the token now; revoking twice keeps the first time."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now())
