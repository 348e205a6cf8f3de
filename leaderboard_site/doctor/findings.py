"""A finding, and the running of checks: each within its time, none stopped by another's failure."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import connection

OK, WARNING, WRONG, SKIPPED = "ok", "warning", "wrong", "skipped"
LONGEST_SECONDS = 20.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `mend` is what to do, a command where there is one; empty when all is well."""

    check: str
    state: str
    what: str
    mend: str = ""


class Found:
    """Collects the findings of one check."""

    def __init__(self, check: str) -> None:
        self.check = check
        self.findings: list[Finding] = []

    def ok(self, what: str) -> None:
        self.findings.append(Finding(self.check, OK, what))

    def warning(self, what: str, mend: str) -> None:
        self.findings.append(Finding(self.check, WARNING, what, mend))

    def wrong(self, what: str, mend: str) -> None:
        self.findings.append(Finding(self.check, WRONG, what, mend))

    def skipped(self, what: str) -> None:
        self.findings.append(Finding(self.check, SKIPPED, what))


Check = Callable[[Found], None]


def run_checks(checks: dict[str, Check], *, seconds: float = LONGEST_SECONDS) -> Iterable[Finding]:
    """The findings of each check as it ends."""
    for name, check in checks.items():
        yield from run_check(name, check, seconds=seconds)


def run_check(name: str, check: Check, *, seconds: float) -> list[Finding]:
    """In a thread of its own, so that a part that hangs is a finding and not the end."""
    found = Found(name)

    def run() -> None:
        try:
            check(found)
        except Exception as error:  # a probe's whole point: whatever is wrong is the answer
            found.wrong(
                f"{type(error).__name__}: {str(error).strip()[:300]}", "Mend what it says, then run doctor again."
            )
        finally:
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    began = time.monotonic()
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        waited = time.monotonic() - began
        return [
            Finding(
                name, WRONG, f"gave no answer within {waited:.0f} s", "Look whether the part hangs, or a network drops."
            )
        ]
    return found.findings
