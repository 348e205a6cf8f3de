"""The small parent of one part. When whoever started it dies, however it dies, the part and all it started end.

    guard.py NAME PARENT_PID PLAN PDEATHSIG DROP -- COMMAND ...

PLAN is how the part is asked to stop: `TERM:10,TERM:4` sends SIGTERM, waits 10 s, again, waits 4 s, then kills.
The guard follows it on SIGTERM and when its parent is gone. PDEATHSIG is what the part gets should the guard itself
be killed with -9. DROP=1: the part refuses to run as root (PostgreSQL), so give it another identity first.

One such process a part, because the alternatives leave something behind: PR_SET_PDEATHSIG alone follows the thread
that forked and does not reach grandchildren (`mlflow server` killed leaves its uvicorn serving); a subreaper gets them.
Standard library only, started with `python -I -S`.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT = 1, 8, 36, 47
PR_CAP_AMBIENT_RAISE = 2
CLONE_NEWUSER = 0x10000000
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
NOBODY = 65534
LIBC = ctypes.CDLL(None, use_errno=True)


def become_other_than_root(data_folder: str) -> None:
    """PostgreSQL refuses user 0. A user namespace in which we are called nobody satisfies it, without a change of owner.

    Where those are forbidden (many containers), really become nobody, keeping only the right to pass through
    folders: the checkout may lie below a closed /root.
    """
    if user_namespace_works():
        own_all(data_folder, 0)
        enter_user_namespace()
    else:
        own_all(data_folder, NOBODY)
        LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        keep_folder_access()


def user_namespace_works() -> bool:
    """Tried in a process of its own, because there is no way back out of one."""
    if os.environ.get("LEADERSBOARD_NO_USER_NAMESPACE"):
        return False
    child = os.fork()
    if child == 0:
        try:
            enter_user_namespace()
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def enter_user_namespace() -> None:
    if LIBC.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} 0 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} 0 1")


def keep_folder_access() -> None:
    """Best effort: without these two capabilities a checkout that nobody may read fails with a plain message."""
    mask = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    # effective, permitted, inheritable; then the same for capabilities above 31
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if LIBC.capset(header, data) == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def own_all(folder: str, user: int) -> None:
    if not os.path.isdir(folder) or os.lstat(folder).st_uid == user:
        return
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in folders + files:
            os.lchown(os.path.join(parent, name), user, user)
    # The top one last: it is the sign that the rest is done.
    os.lchown(folder, user, user)


def start(command: list[str], death_signal: int, drop: bool) -> int:
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        # A group of its own, so that the part cannot signal its guard by signalling its group.
        os.setpgid(0, 0)
        if drop and os.geteuid() == 0:
            become_other_than_root(os.environ.get("LEADERSBOARD_DATA_FOLDER", ""))
        # After the change of user, which clears it.
        LIBC.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if os.getppid() == guard:
            os.execvpe(command[0], command, os.environ)
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr, flush=True)
    os._exit(127)


def children() -> list[int]:
    """Our direct children, which include every orphan below us, since we are their subreaper."""
    me, found = os.getpid(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == me:
                found.append(int(entry))
    return found


def reap(child: int) -> int | None:
    """Collect whatever has ended; the part's wait status if it is among them."""
    status = None
    while True:
        try:
            pid, ended_with = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = ended_with


def kill_the_rest() -> None:
    """The part is gone: end what it left. Killing a child hands us its children, hence the loop."""
    polite_until = time.monotonic() + 1.0
    while left := children():
        number = signal.SIGTERM if time.monotonic() < polite_until else signal.SIGKILL
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
        reap(0)


def send(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        pass


def main(arguments: list[str]) -> int:
    _name, parent, plan, death_signal, drop, _dashes, *command = arguments
    steps = [(signal.Signals[f"SIG{step.split(':')[0]}"], float(step.split(":")[1])) for step in plan.split(",")]
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Signals arrive as bytes on a pipe, so nothing is lost between looking and waiting.
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    waiting_on = [read_end]
    parent_handle = -1
    try:
        parent_handle = os.pidfd_open(int(parent))
        waiting_on.append(parent_handle)
    except OSError:
        pass  # An old kernel or a reused pid: the parent's pid is looked at twice a second instead.
    child = start(command, signal.Signals[f"SIG{death_signal}"], drop == "1")
    stopping, deadline = False, 0.0
    while (status := reap(child)) is None:
        if not stopping and os.getppid() != int(parent):
            stopping, deadline, waiting_on = True, time.monotonic(), [read_end]
        if stopping and time.monotonic() >= deadline:
            number, patience = steps.pop(0) if steps else (signal.SIGKILL, 5.0)
            deadline = time.monotonic() + patience
            send(child, number)
        patience = 0.5 if parent_handle < 0 else 30.0
        if stopping:
            patience = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(waiting_on, [], [], patience)
        received = os.read(read_end, 512) if read_end in ready else b""
        if not stopping and (signal.SIGTERM in received or signal.SIGINT in received):
            stopping, deadline, waiting_on = True, time.monotonic(), [read_end]
    kill_the_rest()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
