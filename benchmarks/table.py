"""One row a goal: what was measured, of ours and of the yardstick, and whether the goal was met."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

_HEADINGS = ("what", "ours", "peer or floor", "ratio", "goal", "")


@dataclass(frozen=True)
class Row:
    """`ratio` is compared with `goal`; `at_least` says on which side of it lies good. Without a goal a row only tells."""

    what: str
    ours: str
    yardstick: str
    ratio: float
    goal: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        is_met = self.ratio >= self.goal if self.at_least else self.ratio <= self.goal
        return "met" if is_met else "short"

    def cells(self) -> tuple[str, ...]:
        sign = ">=" if self.at_least else "<="
        goal = "" if self.goal is None else f"{sign} {self.goal:g}"
        return self.what, self.ours, self.yardstick, f"{self.ratio:.2f}", goal, self.verdict

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def print_table(rows: Sequence[Row], out: TextIO) -> None:
    lines = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    for number, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=out)
        if number == 0:
            print("  ".join("-" * width for width in widths), file=out)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": f"{os.cpu_count()} cores, {cpu[1] if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) / 1024**2:.0f} GiB" if memory else "",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg()),
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
