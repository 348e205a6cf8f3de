"""The specification's load scenario: a hundred people at once, tests/performance/locustfile.py."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

from benchmarks.load import LoadFailed
from benchmarks.servers import OurSite, Peer
from benchmarks.table import Row, median
from leaderboard_site.embedded import environments
from leaderboard_site.embedded.locations import REPOSITORY

# The specification's P95 targets in seconds; the goal is a tenth of each.
TARGETS = {"submit": 0.5, "enqueue": 0.1, "status": 0.2}
# While fifty people come at a time: Locust alone takes up to a tenth of a job's target then, so the target itself is the goal.
ARRIVING = {f"arriving: {call}": TARGETS[call] for call in ("submit", "enqueue")}


def scenario_rows(ours: OurSite, peer: Peer, folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for number in range(min(rounds, 3)):
        for name, side in (("ours", ours), ("peer", peer)):
            found[name].append(_run(side, folder / f"{name}-{number}", seconds=max(15, seconds * 10)))
            side.forget_all()
    rows = []
    for call, target in (TARGETS | ARRIVING).items():
        part, words = (1, "its target") if call in ARRIVING else (10, "a tenth of its target")
        p95 = {name: median([one[call] for one in runs]) for name, runs in found.items()}
        told = f"{p95['ours'] * 1e3:.0f} ms"
        rows.append(
            Row(
                f"100 people, {call}: P95 over {words}",
                told,
                f"{target / part * 1e3:.0f} ms",
                p95["ours"] / target * part,
                1.0,
            )
        )
        rows.append(
            Row(
                f"100 people, {call}: P95 over the peer's",
                told,
                f"{p95['peer'] * 1e3:.0f} ms",
                p95["ours"] / p95["peer"],
            )
        )
    errors = sum(one["errors"] for one in found["ours"])
    rows.append(Row("100 people: errors", f"{errors:.0f}", "0", errors, 0.0))
    return rows


def _run(side: OurSite | Peer, output: Path, *, seconds: int) -> dict[str, float]:
    """P95 in seconds by call, and how many requests failed."""
    tokens = output.with_suffix(".tokens")
    tokens.write_text("\n".join(side.tokens))
    settings = {"LOAD_TOKENS": str(tokens), "LOAD_PREFIX": "" if isinstance(side, Peer) else "/api"}
    command = [str(environments.python("bench")), "-m", "locust", "-f", "tests/performance/locustfile.py", "--headless"]
    command += [
        "-u",
        "100",
        "-r",
        "50",
        "-t",
        f"{seconds}s",
        "--host",
        side.url,
        "--csv",
        str(output),
        "--only-summary",
    ]
    command += ["--exit-code-on-error", "0"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=False,
    )
    try:
        rows = {row["Name"]: row for row in csv.DictReader(Path(f"{output}_stats.csv").read_text().splitlines())}
        found = {call: float(rows[call]["95%"]) / 1e3 for call in (*TARGETS, *ARRIVING)}
        found["errors"] = float(rows["Aggregated"]["Failure Count"])
    except (OSError, KeyError, ValueError) as error:
        raise LoadFailed(f"locust against {side.url}: {error}\n{done.stderr[-2000:]}") from error
    return found
