"""Passwords, checked behind the throttle: what the API, the login page and the admin's login all go through."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from accounts import throttle
from accounts.hashing import hashing_slot
from accounts.models import User
from accounts.refusals import Forbidden


class ThrottledBackend(ModelBackend):
    """Raises QuotaExceeded, before any hashing, when too many logins have failed; the edges answer 429.

    Raises Forbidden for a banned person with the right password. With a wrong one the answer is as for anybody.
    """

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
            if user is None or not user.is_active:
                attempt.fail()
            else:
                attempt.succeed()
        if user is not None and not user.is_active:
            raise Forbidden(
                "banned", _("The operators have banned this account. Ask them if you think this is a mistake.")
            )
        return user

    def user_can_authenticate(self, user: AbstractBaseUser | AnonymousUser | None) -> bool:
        """Accept a banned person here: `authenticate` tells them, and `get_user` ends their sessions."""
        return True

    def get_user(self, user_id: int) -> User | None:
        user: User | None = super().get_user(user_id)
        return user if user is not None and user.is_active else None
