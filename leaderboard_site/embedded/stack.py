"""Runs several parts in the foreground: starts them in order, keeps them up, and ends them in order."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import NoReturn, TextIO

from leaderboard_site.embedded.locations import Locations
from leaderboard_site.embedded.processes import (
    Part,
    PartError,
    end_leftovers,
    start_time,
)
from leaderboard_site.embedded.progress import Progress

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_STOP_SECONDS = 20.0  # more than any part's own plan; then it is killed
CALM_SECONDS = 60.0  # up for this long counts as healthy again


class StopAsked(BaseException):
    """Ctrl-C, SIGTERM, or the program that started us has gone."""


class AlreadyRunning(RuntimeError):
    """Another start uses this VAR folder; the message says which."""


class Kept:
    """A part that is started again whenever it ends."""

    def __init__(self, part: Part, start: Callable[[], None]) -> None:
        self.part = part
        self.start = start
        self.pause = FIRST_PAUSE_SECONDS
        self.started_at = time.monotonic()
        self.next_start: float | None = None


class Stack:
    def __init__(self, locations: Locations, progress: Progress | None = None) -> None:
        self.locations = locations
        self.progress = progress or Progress()
        self._kept: list[Kept] = []
        self._passing: set[Part] = set()
        self._lock: TextIO | None = None
        self._stop_asked = False

    # --- one stack a folder -------------------------------------------------------------------------------------
    def claim(self, *, web_port: int | None) -> None:
        """Make the VAR folder ours until we end, and end what an earlier, killed start left in it."""
        self.locations.make()
        lock = self.locations.lock_file.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            state = self.locations.read_state()
            port = state.get("web_port")
            where = f", http://127.0.0.1:{port}/" if port else " (servers only)"
            raise AlreadyRunning(
                f"LeadersBoard already runs on {self.locations.var}: process {state.get('pid', '?')}{where}. "
                "Stop it first (Ctrl-C there), or give this one a folder of its own: LEADERSBOARD_VAR=..."
            ) from None
        self._lock = lock
        self.locations.write_state(
            pid=os.getpid(),
            start_time=start_time(os.getpid()),
            web_port=web_port,
            parts={},
        )
        left = end_leftovers(self.locations)
        if left:
            self.progress.say(f"  An earlier start had been killed; ended {left} processes that it left behind.")

    def listen_for_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        # Once: the second Ctrl-C of somebody impatient must not break off the orderly end.
        if not self._stop_asked:
            self._stop_asked = True
            raise StopAsked

    # --- starting -----------------------------------------------------------------------------------------------
    def keep(self, part: Part, start: Callable[[], None]) -> Kept:
        kept = Kept(part, start)
        self._kept.append(kept)
        return kept

    def start(
        self,
        part: Part,
        start: Callable[[], None],
        result: Callable[[], str] = lambda: "ready",
    ) -> None:
        """Start a part that is to stay up, and show the step."""
        kept = self.keep(part, start)
        with self.progress.step(part.title) as step:
            start()
            step.result = result()
        kept.started_at = time.monotonic()

    def run(self, part: Part, *, seconds: float, result: str = "done") -> None:
        """Run a part that does one thing and ends."""
        self._passing.add(part)
        with self.progress.step(part.title) as step:
            part.run_to_its_end(seconds=seconds)
            step.result = result
        self._passing.discard(part)

    def run_shown(self, part: Part, *, seconds: float) -> None:
        """The same for a part that itself shows what it does."""
        self._passing.add(part)
        part.run_to_its_end(seconds=seconds)
        self._passing.discard(part)

    @staticmethod
    def together(*jobs: Callable[[], object]) -> None:
        """Do several things at once; the first failure is raised, the others are not waited for."""
        pool = ThreadPoolExecutor(max_workers=len(jobs))
        try:
            futures: list[Future[object]] = [pool.submit(job) for job in jobs]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def write_parts(self) -> None:
        parts = {}
        for kept in self._kept:
            pid = kept.part.pid
            if pid is not None:
                parts[kept.part.name] = {
                    "pid": pid,
                    "start_time": start_time(pid),
                    "log": str(kept.part.log),
                }
        self.locations.write_state(parts=parts)

    # --- running ------------------------------------------------------------------------------------------------
    def serve(self) -> NoReturn:
        """Keep every part up until a signal raises StopAsked."""
        self.write_parts()
        while True:
            for kept in self._kept:
                self._look_after(kept)
            time.sleep(0.5)

    def _look_after(self, kept: Kept) -> None:
        now = time.monotonic()
        if kept.part.is_running():
            if now - kept.started_at > CALM_SECONDS:
                kept.pause = FIRST_PAUSE_SECONDS
            return
        if kept.next_start is None:
            kept.next_start = now + kept.pause
            code = kept.part.exit_code
            # A guard that was killed had no time to end what it guarded.
            kept.part.stop()
            self.progress.say(
                f"  {kept.part.title} ended with exit code {code}; starting it again in {kept.pause:.0f} s. "
                f"Its log: {kept.part.log}"
            )
            kept.pause = min(kept.pause * 2, LONGEST_PAUSE_SECONDS)
        elif now >= kept.next_start:
            kept.next_start = None
            kept.started_at = now
            try:
                kept.start()
            except PartError as error:
                self.progress.say(f"  {error}")
            else:
                self.progress.say(f"  {kept.part.title} is up again.")
                self.write_parts()

    # --- ending -------------------------------------------------------------------------------------------------
    def stop(self, order: Iterable[Iterable[str]]) -> None:
        """End the parts group by group, each group at once, the servers that others need last."""
        self._stop_asked = True
        for part in list(self._passing):
            part.ask_to_stop()
        parts = {kept.part.name: kept.part for kept in self._kept}
        for group in [*order, list(parts)]:
            chosen = [parts[name] for name in group if name in parts and parts[name].is_running()]
            if not chosen:
                continue
            began = time.monotonic()
            for part in chosen:
                part.ask_to_stop()
            while chosen:
                patience = 0.0 if time.monotonic() - began > LONGEST_STOP_SECONDS else 0.05
                for part in [part for part in chosen if patience == 0.0 or not part.is_running()]:
                    part.stop(seconds=patience)
                    chosen.remove(part)
                    self.progress.say(f"  {part.title:<22} {'stopped':<44} {time.monotonic() - began:6.1f} s")
                time.sleep(patience)
        for part in list(self._passing):
            part.stop()
        if self._lock is not None:
            end_leftovers(self.locations, seconds=2)
            # While the lock is ours nobody else's sockets can be in it.
            shutil.rmtree(self.locations.sockets, ignore_errors=True)
            self.locations.write_state(pid=None, start_time=None, web_port=None, parts={})
            self._lock.close()
