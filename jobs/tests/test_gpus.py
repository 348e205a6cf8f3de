"""One worker a GPU, and no job on a GPU in use; a script stands for nvidia-smi, whose answers are the real one's form."""

import os
import signal
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from jobs import gpus, worker
from jobs.execution.preflight import Findings
from jobs.gpus import Gpu, GpuError, HeldGpus
from jobs.models import Job, Worker
from jobs.tests.factories import JobFactory

ZERO, THREE = "GPU-aaaa0000-0000-0000-0000-000000000000", "GPU-bbbb1111-0000-0000-0000-000000000000"
SCRIPT = """#!/bin/sh
cd {folder}
[ -e fails ] && {{ echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18; }}
case "$*" in
*query-gpu*) cat cards ;;
*query-compute-apps*) cat apps ;;
esac
"""


class Machine:
    """Two cards; the second is /dev/nvidia3, as where a container was given that one."""

    def __init__(self, folder):
        self.folder = folder
        script = folder / "nvidia-smi"
        script.write_text(SCRIPT.format(folder=folder))
        script.chmod(0o755)
        self.set()
        for uuid, minor in ((ZERO, 0), (THREE, 3)):
            place = folder / "driver" / f"0000:0{minor}:00.0"
            place.mkdir(parents=True)
            (place / "information").write_text(
                f"Model: \\t\\t NVIDIA H200\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
            )

    def set(self, *, used=(4, 4), apps=""):
        cards = [f"0, {ZERO}, 143771, {used[0]}, 0, NVIDIA H200", f"1, {THREE}, 143771, {used[1]}, [N/A], NVIDIA H200"]
        (self.folder / "cards").write_text("\n".join(cards) + "\n")
        (self.folder / "apps").write_text(apps)


@pytest.fixture
def machine(tmp_path, settings, monkeypatch):
    settings.GPU_LOCK_ROOT = tmp_path / "locks"
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "driver")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Machine(tmp_path)


def test_cards_are_known_by_uuid_and_device(machine):
    held = HeldGpus.take((1,))
    assert held.gpus == [Gpu(1, THREE, "NVIDIA H200", 3, 143771 * 1024**2, 4 * 1024**2, None)]
    assert (held.minors, held.environment()) == ((3,), {"CUDA_VISIBLE_DEVICES": THREE})
    held.release()


def test_a_worker_without_gpus_asks_nobody(monkeypatch):
    monkeypatch.setenv("PATH", "")
    held = HeldGpus.take(())
    assert (held.are_free(), held.minors, held.environment()) == (True, (), {})


def test_a_card_has_one_worker(machine):
    first = HeldGpus.take((0, 0))
    with pytest.raises(GpuError, match=rf"GPU 0 .*another worker of this machine: .* process {os.getpid()}"):
        HeldGpus.take((1, 0))
    other = HeldGpus.take((1,))  # the refused one has let go of it
    first.release()
    HeldGpus.take((0,)).release()
    other.release()


def test_a_worker_that_died_holds_nothing(machine, settings):
    code = f"import fcntl, os, time; fcntl.flock(os.open({str(machine.folder / 'locks' / ZERO)!r} + '.lock', 66, 0o600), 2)"
    (machine.folder / "locks").mkdir()
    dying = subprocess.Popen([sys.executable, "-c", f"{code}; print('held', flush=True); time.sleep(60)"], stdout=-1)
    assert dying.stdout.readline() == b"held\n"
    with pytest.raises(GpuError):
        HeldGpus.take((0,))
    dying.kill()
    dying.wait()
    dying.stdout.close()
    HeldGpus.take((0,)).release()


@pytest.mark.parametrize(
    ("now", "is_free"),
    [
        ({}, True),
        ({"apps": f"{ZERO}, 4711\n"}, True),  # somebody on the other card
        ({"apps": f"{ZERO}, 12\n{THREE}, 4711\n"}, False),
        ({"used": (90000, 1024)}, True),
        ({"used": (4, 1025)}, False),  # another container's process is not listed; its memory is
    ],
    ids=["idle", "other-card", "process", "at-the-limit", "memory"],
)
def test_a_card_is_free_when_nothing_is_on_it(machine, now, is_free):
    held = HeldGpus.take((1,))
    machine.set(**now)
    assert held.are_free() == is_free
    held.release()


def test_a_card_that_cannot_be_asked_or_is_gone_is_not_free(machine, caplog):
    held = HeldGpus.take((1,))
    (machine.folder / "fails").touch()
    assert not held.are_free()
    assert "Driver/library version mismatch" in caplog.text
    (machine.folder / "fails").unlink()
    (machine.folder / "cards").write_text(f"0, {ZERO}, 1, 0, 0, NVIDIA H200\n")
    assert not held.are_free()
    held.release()


@pytest.mark.parametrize(
    ("wanted", "said"), [("7", r"--gpu 7: this machine has \[0, 1\]"), ("0", "nvidia-smi was not found")]
)
@pytest.mark.django_db
def test_the_command_says_which_card_is_missing(machine, monkeypatch, wanted, said):
    monkeypatch.setattr("jobs.management.commands.worker.probe_sandbox", lambda *args, **kwargs: Findings())
    monkeypatch.setattr("jobs.management.commands.worker.is_tight", lambda report: True)
    if "not found" in said:
        monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match=said):
        call_command("worker", "--gpu", wanted)


@pytest.mark.django_db(transaction=True)
def test_no_job_is_claimed_while_the_card_is_in_use(machine, monkeypatch, settings):
    settings.POLL_SECONDS = 0.2
    waiting = JobFactory()
    machine.set(apps=f"{THREE}, 4711\n")
    held, ran = HeldGpus.take((1,)), []
    one = worker.make_worker(["small"], gpus=held)
    monkeypatch.setattr("jobs.running.Runner.run", lambda self, job, claim: ran.append(job.pk))
    monkeypatch.setattr("jobs.running.Runner.prepare", lambda self: None)
    waits = iter([lambda: None, lambda: machine.set(used=(0, 2000)), lambda: machine.set(used=(0, 7))])
    seen = []

    def wait():
        seen.append((Job.objects.get().status, list(ran)))
        next(waits)()

    monkeypatch.setattr(one, "_wait", wait)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        one.work(burst=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (seen, ran) == ([("pending", [])] * 3, [waiting.pk])
    card = Worker.objects.get().gpus[0]
    assert (card["uuid"], card["memory_used_bytes"]) == (THREE, 7 * 1024**2)
    HeldGpus.take((1,)).release()  # it let go at its end
