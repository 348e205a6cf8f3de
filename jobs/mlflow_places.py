"""The few requests that go to MLflow at once: so many for all, and so many for one person, operators too."""

import threading
from collections import Counter

from django.utils.translation import gettext_lazy as _

from accounts.refusals import QuotaExceeded, Unavailable

RETRY_AFTER_SECONDS = 5


class Places:
    """`at_once` places in this process, of which one person has at most `each`."""

    def __init__(self, at_once: int, each: int) -> None:
        self.at_once, self.each = at_once, each
        self._taken: Counter[int] = Counter()
        self._changed = threading.Condition()

    def take(self, person: int, seconds: float) -> None:
        """A place, as soon as there is one: a page of MLflow's asks for more at a time than a person's places.

        Raises:
            QuotaExceeded: after so many seconds the person's own requests still hold all that are theirs.
            Unavailable: after so many seconds other people's hold all.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_one(person), seconds):
                raise self._refusal(person)
            self._taken[person] += 1

    def give_back(self, person: int) -> None:
        with self._changed:
            self._taken[person] -= 1
            self._taken += Counter()  # forgets who has none
            self._changed.notify_all()

    def _has_one(self, person: int) -> bool:
        return self._taken[person] < self.each and self._taken.total() < self.at_once

    def _refusal(self, person: int) -> QuotaExceeded | Unavailable:
        if self._taken[person] >= self.each:
            message = _("Your other questions to MLflow are not answered yet. Try again when they are.")
            return QuotaExceeded("too_many_mlflow_requests", message, retry_after=RETRY_AFTER_SECONDS)
        message = _("MLflow has too many questions just now. Try again.")
        return Unavailable("mlflow_busy", message, retry_after=RETRY_AFTER_SECONDS)
