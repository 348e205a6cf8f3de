"""This worker's GPUs: one worker holds a GPU of a machine, and no job begins on one that something still uses.

Known by UUID, which holds in every container and after every restart; the index of nvidia-smi need be neither CUDA's nor
the number in /dev/nvidiaN.
"""

import fcntl
import logging
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from django.conf import settings

from core.sizes import MIB, human_bytes

logger = logging.getLogger(__name__)

ASK_SECONDS = 20.0
REMIND_SECONDS = 60.0
DRIVER = Path("/proc/driver/nvidia/gpus")


class GpuError(Exception):
    """A GPU that this worker was to have is missing, held by another worker, or cannot be asked."""


@dataclass(frozen=True)
class Gpu:
    """`minor` is the N of /dev/nvidiaN; sizes in bytes, `utilization` from 0 to 1 (None where the card does not tell)."""

    index: int
    uuid: str
    name: str
    minor: int
    memory_total_bytes: int
    memory_used_bytes: int
    utilization: float | None

    def as_json(self) -> dict[str, Any]:
        """For the worker's row: what operators see of it."""
        shown = ("index", "uuid", "name", "memory_total_bytes", "memory_used_bytes", "utilization")
        return {name: getattr(self, name) for name in shown}


def _ask(*query: str) -> list[list[str]]:
    """The cells of nvidia-smi's answer; GpuError when there is none in time (a driver that hangs, too)."""
    command = ["nvidia-smi", *query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
    except FileNotFoundError as error:
        raise GpuError("nvidia-smi was not found: is NVIDIA's driver (in a container: its toolkit) there?") from error
    except subprocess.TimeoutExpired as error:
        raise GpuError(f"nvidia-smi did not answer within {ASK_SECONDS:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise GpuError(f"nvidia-smi failed: {(error.stdout + error.stderr).strip()[:300]}") from error
    return [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None


def _minors() -> dict[str, int]:
    """{UUID: minor} as the driver tells it; a container sees its own cards, whose minor need not be their index."""
    found = {}
    for path in DRIVER.glob("*/information"):
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        told = {name.strip(): value.strip() for name, value in fields.items()}
        if told.get("Device Minor", "").isdigit():
            found[told.get("GPU UUID", "")] = int(told["Device Minor"])
    return found


def present() -> list[Gpu]:
    """The GPUs of this machine (in a container: those that it was given)."""
    minors = _minors()
    fields = "--query-gpu=index,uuid,memory.total,memory.used,utilization.gpu,name"
    gpus = []
    for index, uuid, total, used, load, *name in _ask(fields):
        share = _number(load)
        gpus.append(
            Gpu(
                index=int(index), uuid=uuid, name=",".join(name), minor=minors.get(uuid, int(index)),
                memory_total_bytes=int((_number(total) or 0) * MIB), memory_used_bytes=int((_number(used) or 0) * MIB),
                utilization=None if share is None else share / 100,
            )
        )  # fmt: skip
    return gpus


class HeldGpus:
    """The GPUs of one worker, locked against every other worker of the machine until `release` or its death."""

    def __init__(self, gpus: list[Gpu], locks: list[int]) -> None:
        self.gpus = gpus
        self._locks = locks
        self._reminded_at = -REMIND_SECONDS

    @classmethod
    def take(cls, indexes: tuple[int, ...]) -> Self:
        """Raises GpuError when one is not there, or when another worker has it."""
        if not indexes:
            return cls([], [])
        found = {gpu.index: gpu for gpu in present()}
        if missing := sorted(set(indexes) - set(found)):
            raise GpuError(f"--gpu {missing[0]}: this machine has {sorted(found) or 'no GPU'}.")
        held = cls([found[index] for index in dict.fromkeys(indexes)], [])
        try:
            for gpu in held.gpus:
                held._locks.append(_lock(gpu))
        except GpuError:
            held.release()
            raise
        return held

    @property
    def minors(self) -> tuple[int, ...]:
        return tuple(gpu.minor for gpu in self.gpus)

    def environment(self) -> dict[str, str]:
        """What a run is told: by UUID, since in its sandbox it sees its own cards only, whatever their index outside."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in self.gpus)} if self.gpus else {}

    def are_free(self) -> bool:
        """Whether nothing computes on them. What cannot be asked counts as in use: a run must not find another's."""
        if not self.gpus:
            return True
        try:
            ours = {gpu.uuid for gpu in self.gpus}
            self.gpus = [gpu for gpu in present() if gpu.uuid in ours]
            apps = [
                f"process {pid} on {uuid}" for uuid, pid in _ask("--query-compute-apps=gpu_uuid,pid") if uuid in ours
            ]
            # Processes of another container are not listed; their memory is counted.
            full = [
                f"{human_bytes(gpu.memory_used_bytes)} in use on {gpu.uuid}"
                for gpu in self.gpus
                if gpu.memory_used_bytes > settings.GPU_IDLE_MIB * MIB
            ]
            lost = [f"{uuid} is gone" for uuid in sorted(ours - {gpu.uuid for gpu in self.gpus})]
        except (GpuError, ValueError) as error:
            apps, full, lost = [str(error)], [], []
        reasons = [*apps, *full, *lost]
        if reasons and time.monotonic() - self._reminded_at >= REMIND_SECONDS:
            self._reminded_at = time.monotonic()
            logger.warning("no job is taken while a GPU is in use: %s", "; ".join(reasons))
        return not reasons

    def release(self) -> None:
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()


def _lock(gpu: Gpu) -> int:
    folder = Path(settings.GPU_LOCK_ROOT)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{gpu.uuid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 100).decode(errors="replace").strip()
        os.close(descriptor)
        raise GpuError(f"GPU {gpu.index} ({gpu.uuid}) belongs to another worker of this machine: {holder}.") from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.uname().nodename} process {os.getpid()}".encode())
    return descriptor
