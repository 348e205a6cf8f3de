"""Resident memory of what waits for work: pages shared with other processes count in part (PSS), so that sums mean something."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

from benchmarks.servers import OurSite, tree
from benchmarks.table import Row

MB = 10**6


def memory_rows(ours: OurSite) -> list[Row]:
    web = ours.open_web(workers=2)
    worker = ours.open_worker()
    # Every worker has answered pages and calls, and holds its database connections.
    for path in ["/", "/login/", "/api/jobs", "/leaderboards/default/"] * 20:
        request = urllib.request.Request(ours.url + path, headers={"Authorization": f"Bearer {ours.tokens[0]}"})
        urllib.request.urlopen(request, timeout=30).read()
    time.sleep(3)
    rows = []
    for name, part, goal in (("web with 2 workers", web, 200), ("an idle worker", worker, 100)):
        total = sum(_pss(pid) for pid in tree(part.pid or 0)) / MB
        rows.append(Row(f"memory of {name}, over {goal} MB", f"{total:.0f} MB", f"{goal} MB", total / goal, 1.0))
    ours.close("worker")
    ours.close("web")
    return rows


def _pss(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
