"""Users for tests. Sign in with `client.force_login(user)`; for the login form the password is `PASSWORD`."""

import sys

import factory
import pytest
from django.contrib.auth.hashers import make_password

from accounts.hashing import BoundedArgon2PasswordHasher
from accounts.models import ApiToken, User, token_digest

PASSWORD = "correct horse battery"
_HASH = ""


def make_hashes_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Argon2 its least cost, for tests that hash often and are not about hashing."""
    for name, least in (("time_cost", 1), ("memory_cost", 64), ("parallelism", 1)):
        monkeypatch.setattr(BoundedArgon2PasswordHasher, name, least)
    monkeypatch.setattr(sys.modules[__name__], "_HASH", "")


def _hashed() -> str:
    """Hashed once a session: Argon2 is slow on purpose."""
    global _HASH
    _HASH = _HASH or make_password(PASSWORD)
    return _HASH


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"person{n}")
    password = factory.LazyFunction(_hashed)


class ApiTokenFactory(factory.django.DjangoModelFactory):
    """A token whose secret is `secret`, never stored: `Authorization: Bearer lb_test-0`."""

    class Meta:
        model = ApiToken

    class Params:
        secret = factory.Sequence(lambda n: f"lb_test-{n}")

    user = factory.SubFactory(UserFactory)
    name = "laptop"
    digest = factory.LazyAttribute(lambda token: token_digest(token.secret))
