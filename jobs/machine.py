"""What a worker tells of its machine, for the operators' page."""

import os
import shutil
from typing import Any

from django.conf import settings


def machine_state() -> dict[str, Any]:
    """Processors, load, memory and the disk of the scratch folder; what cannot be read is left out."""
    state: dict[str, Any] = {"cpus": os.cpu_count()}
    try:
        state["load"] = round(os.getloadavg()[0], 2)
        state["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        pass
    try:
        disk = shutil.disk_usage(settings.WORK_ROOT)
        state["disk"] = {"path": str(settings.WORK_ROOT), "free_bytes": disk.free, "total_bytes": disk.total}
    except OSError:
        pass
    return state
