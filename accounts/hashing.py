"""A bound on how many passwords one process hashes at once.

Argon2 takes 100 MiB and several cores for each. Without a bound, a crowd at the login page takes all of both.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.hashers import Argon2PasswordHasher
from django.utils.translation import gettext_lazy as _

from accounts.refusals import Unavailable

AT_ONCE = 2
LONGEST_WAIT_SECONDS = 30.0
_slots = threading.BoundedSemaphore(AT_ONCE)
_thread = threading.local()


@contextmanager
def hashing_slot() -> Iterator[None]:
    """Hold one of the process's slots; a thread that holds one keeps it. Raises Unavailable after a long wait."""
    if getattr(_thread, "has_slot", False):
        yield
        return
    if not _slots.acquire(timeout=LONGEST_WAIT_SECONDS):
        raise Unavailable("unavailable", _("Too many people are signing in right now."), retry_after=5)
    _thread.has_slot = True
    try:
        yield
    finally:
        _thread.has_slot = False
        _slots.release()


class BoundedArgon2PasswordHasher(Argon2PasswordHasher):
    """Django's Argon2, at most AT_ONCE at a time."""

    def encode(self, password, salt):
        with hashing_slot():
            return super().encode(password, salt)

    def verify(self, password, encoded):
        with hashing_slot():
            return super().verify(password, encoded)
