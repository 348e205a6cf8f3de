"""Measure the site beside the reference peer and the machine's floors, and print one table.

make bench                       everything (about half an hour); SHORT=1: fewer and shorter rounds
make bench ARGS="status jobs"    some parts; ARGS="--json results.json" keeps the figures
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import api, scenario
from benchmarks.growth import growth_rows
from benchmarks.load import LoadFailed, need_wrk
from benchmarks.memory import memory_rows
from benchmarks.runs import run_rows
from benchmarks.servers import OurSite, Peer
from benchmarks.table import Row, machine, print_table

PARTS = {
    "status": "GET /api/jobs/ID/status beside the peer",
    "jobs": "POST /api/jobs beside the peer",
    "uploads": "POST /api/submissions beside the peer, and over the disk",
    "scenario": "the specification's load, a hundred people (Locust)",
    "runs": "what the platform adds to a run",
    "growth": "pages at 10^4 and 10^6 jobs (short: 10^5)",
    "memory": "resident memory of web and worker",
}
BESIDE_PEER = {
    "status": api.status_rows,
    "jobs": api.enqueue_rows,
    "uploads": api.upload_rows,
    "scenario": scenario.scenario_rows,
}


@dataclass(frozen=True)
class Options:
    parts: list[str]
    rounds: int
    seconds: int
    is_short: bool
    folder: Path


def main() -> int:
    options, json_file = parse()
    say(", ".join(f"{name}: {value}" for name, value in machine().items()))
    rows: list[Row] = []
    try:
        need_wrk()
        for part in options.parts:
            rows += measure(part, options)
    except LoadFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    finally:
        if rows:
            print_table(rows, sys.stdout)
        if json_file and rows:
            json_file.write_text(json.dumps({"machine": machine(), "rows": [row.as_json() for row in rows]}, indent=1))
    return 0


def measure(part: str, options: Options) -> list[Row]:
    say(f"{part}: {PARTS[part]}")
    with scratch(options.folder) as folder, OurSite(folder / "ours") as ours:
        if part == "runs":
            return run_rows(ours, folder, rounds=options.rounds, is_short=options.is_short)
        if part == "growth":
            sizes = (10_000, 100_000 if options.is_short else 1_000_000)
            return growth_rows(ours, sizes=sizes, count=20 if options.is_short else 60)
        if part == "memory":
            return memory_rows(ours)
        ours.open_web()
        with Peer(folder / "peer") as peer:
            return BESIDE_PEER[part](ours, peer, folder, rounds=options.rounds, seconds=options.seconds)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parse() -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="; ".join(f"{name}: {what}" for name, what in PARTS.items())
    )
    parser.add_argument("--short", action="store_true", help="one-second rounds, three of them")
    parser.add_argument("--rounds", type=int, help="alternating rounds, of which medians are taken (5; short: 3)")
    parser.add_argument("--seconds", type=int, help="whole seconds a round (3; short: 1)")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where sites are made (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(PARTS)}")
    rounds = given.rounds or (3 if given.short else 5)
    seconds = given.seconds or (1 if given.short else 3)
    return Options(given.parts or list(PARTS), rounds, seconds, given.short, given.folder), given.json


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
