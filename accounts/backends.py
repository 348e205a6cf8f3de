"""Passwords, checked behind the throttle: what the API, the login page and the admin's login all go through."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from accounts import throttle
from accounts.hashing import hashing_slot
from accounts.models import User


class ThrottledBackend(ModelBackend):
    """Raises QuotaExceeded, before any hashing, when too many logins have failed; the edges answer 429."""

    @sensitive_variables("password")
    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        if username is None or password is None:
            return None
        attempt = throttle.login_attempt(request, username)
        attempt.check()  # a blocked one takes no slot
        with hashing_slot():
            attempt.admit()
            user: User | None = super().authenticate(request, username=username, password=password, **kwargs)
            if user is None:
                attempt.fail()
            else:
                attempt.succeed()
        return user
