"""What each lane of the suite came to, as the last lines of its report: fast tests, real processes, browser."""

from collections import Counter, defaultdict
from typing import Any

import pytest

# By where a test lies. The tests of an app, of the API and of documents are the fast ones.
PROCESSES = tuple(
    f"tests/{name}/"
    for name in (
        "attacks", "chaos", "deploy", "embedded", "examples", "images", "multihost", "object_storage", "recovery", "restore",
    )
)  # fmt: skip
BROWSER = ("tests/pages/",)


def lane_of(nodeid: str) -> str:
    if nodeid.startswith(PROCESSES):
        return "processes"
    return "browser" if nodeid.startswith(BROWSER) else "fast"


class Lanes:
    """Counts outcomes and seconds by lane, over all test processes."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: Any) -> None:
        lane = lane_of(report.nodeid)
        self.seconds[lane] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[lane][report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for lane, outcomes in sorted(self.outcomes.items()):
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            terminalreporter.write_line(f"lane {lane}: {told}; {self.seconds[lane]:.0f} s of test processes")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that hears of all tests
        config.pluginmanager.register(Lanes(), "lanes")
