"""Hosts on one machine: each with an address, a name and a disk of its own, on a bridge whose links can be cut and slowed.

The network lies in namespaces that this process and its children hold: whatever ends it, nothing is left on the machine.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

NETWORK = "10.77.0"
CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class CannotBuild(Exception):
    """This machine cannot hold such a network; the message says why."""


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)


def command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def enter_own_network() -> None:
    """Move this process into a network of its own, with the bridge. Raises CannotBuild."""
    if os.geteuid() != 0:
        raise CannotBuild("network namespaces need root: run it as root (sudo make multihost).")
    if missing := [name for name in ("ip", "tc", "unshare", "nsenter", "mount") if not shutil.which(name)]:
        raise CannotBuild(f"{', '.join(missing)}: not found (Debian: apt install iproute2 util-linux).")
    if _LIBC.unshare(CLONE_NEWNET) != 0:
        raise CannotBuild(f"no network namespace: {os.strerror(ctypes.get_errno())}.")
    try:
        command("ip", "link", "set", "lo", "up")
        command("ip", "link", "add", "bridge0", "type", "bridge")
        command("ip", "address", "add", f"{NETWORK}.1/24", "dev", "bridge0")
        command("ip", "link", "set", "bridge0", "up")
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error


class Host:
    """Everything started here sees the host's address and name, and of the drill's folder the host's own part alone."""

    def __init__(self, name: str, number: int, shared: Path) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        self.folder = shared / name
        self.folder.mkdir()
        self._link = f"to-{name}"[:15]
        self.processes: list[subprocess.Popen[bytes]] = []
        hide = f'hostname {name}; mount -t tmpfs hidden "{shared}"; mkdir "{self.folder}"; mount -c --bind . "{self.folder}"'
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "sh", "-ec",
             f"{hide}; echo ready; exec sleep infinity"],
            cwd=self.folder, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise CannotBuild(f"{name}: its namespaces could not be made.")
        command("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        command("ip", "link", "set", self._link, "master", "bridge0", "up")
        for words in (
            ["address", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"],
        ):  # fmt: skip
            command(*self.within(), "ip", *words)

    def within(self) -> list[str]:
        """What a command is prefixed with to run here."""
        return ["nsenter", "--target", str(self._holder.pid), "--net", "--uts", "--mount"]

    def start(self, words: list[str], *, cwd: Path, environment: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(
                # nsenter's own --wd would be resolved before the mounts are entered.
                [*self.within(), "env", f"--chdir={cwd}", *words],
                env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # --- its link --------------------------------------------------------------------------------------------------
    def cut(self) -> None:
        command("ip", "link", "set", self._link, "down")

    def mend(self) -> None:
        command("ip", "link", "set", self._link, "up")

    def slow(self, *, kilobits: int, delay_ms: int) -> str:
        """Make the link narrow and, where the kernel can, late; what was done."""
        netem = ["netem", "delay", f"{delay_ms}ms", "rate", f"{kilobits}kbit"]
        narrow = ["tbf", "rate", f"{kilobits}kbit", "burst", "16kbit", "latency", "2s"]
        for how, said in ((netem, f"{kilobits} kbit/s, {delay_ms} ms late"), (narrow, f"{kilobits} kbit/s")):
            try:
                command("tc", "qdisc", "replace", "dev", self._link, "root", *how)
                command(*self.within(), "tc", "qdisc", "replace", "dev", "eth0", "root", *how)
            except subprocess.CalledProcessError:
                continue  # this kernel lacks the one; the other is in every kernel that has traffic control
            return said
        raise CannotBuild("tc can neither netem nor tbf here: the kernel lacks sch_netem and sch_tbf.")

    def unslow(self) -> None:
        command("tc", "qdisc", "del", "dev", self._link, "root")
        command(*self.within(), "tc", "qdisc", "del", "dev", "eth0", "root")

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + 8
        for process in self.processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()
