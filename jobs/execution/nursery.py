"""Supervisors by the fork: a process that has all their code loaded, and makes one whenever the worker asks.

    python -I -S nursery.py         requests on stdin, a socket: each brings the ends of two pipes, and is answered by the
                                    pid of the supervisor that has them as stdin and stdout, with a descriptor of it

Starting a Python process and importing costs tens of milliseconds of a processor for every run; a fork costs one. A fork
shares nothing with its sisters but memory that none of them changes: it knows no run when it begins, like a process of its own.
When the worker is gone the nursery ends; supervisors go by their own pipes, as always.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

if __package__ in (None, ""):
    # Run as a file, isolated: the package is found from here, behind the standard library.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from jobs.execution import cgroup, interpreter, supervisor


def serve(requests: socket.socket) -> None:
    """Until the worker closes its end."""
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    children: dict[int, int] = {}  # descriptor of the process -> pid
    while True:
        for ready, _ in poll.poll():
            if ready != requests.fileno():
                poll.unregister(ready)
                # At once: what looks for dead supervisors by their pid must not find one that nobody waited for.
                os.waitpid(children.pop(ready), 0)
                os.close(ready)
                continue
            message, pipes, _, _ = socket.recv_fds(requests, 16, 2)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                _become_supervisor(*pipes)
            descriptor = os.pidfd_open(pid)
            children[descriptor] = pid
            poll.register(descriptor, select.POLLIN)
            socket.send_fds(requests, [str(pid).encode()], [descriptor])
            for pipe in pipes:
                os.close(pipe)


def _become_supervisor(commands: int, events: int) -> NoReturn:
    try:
        os.setsid()
        os.dup2(commands, 0)
        os.dup2(events, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        supervisor.main()
    except BaseException:
        # Whatever it was: a fork must never return into the nursery's loop.
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _warm_up() -> None:
    """Find out what is the same for every run: forks have it from the start."""
    interpreter.system_library_paths()
    with contextlib.suppress(OSError):
        cgroup.own_parents()


def main() -> None:
    # As in a supervisor: these are for the worker, who then decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _warm_up()
    gc.collect()
    gc.freeze()  # so that a collection in a fork does not copy every page
    with socket.socket(fileno=os.dup(0)) as requests:
        serve(requests)


if __name__ == "__main__":
    main()
