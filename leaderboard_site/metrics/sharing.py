"""The folder in which gunicorn's processes count together, as prometheus_client lays it out.

A process that ends has its counts added to those of the dead, so that the folder stays small however often gunicorn replaces
processes; a reader locks that out, so that it never sees them twice.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the name is prometheus_client's
LOCK = "lock"


@contextmanager
def locked(how: int) -> Iterator[None]:
    """Readers share the folder; who moves counts has it alone."""
    descriptor = os.open(Path(os.environ[FOLDER], LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def add_to_the_dead(pid: int) -> None:
    """Move what a process counted into the files of those that ended."""
    from prometheus_client.mmap_dict import MmapedDict

    folder = Path(os.environ[FOLDER])
    for kind in ("counter", "histogram"):
        path = folder / f"{kind}_{pid}.db"
        if not path.exists():
            continue
        with locked(fcntl.LOCK_EX):
            dead = MmapedDict(str(folder / f"{kind}_dead.db"))
            for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(path)):
                dead.write_value(key, dead.read_value(key)[0] + value, timestamp)
            dead.close()
            path.unlink()
