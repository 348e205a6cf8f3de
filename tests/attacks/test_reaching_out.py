"""Files, environments, networks and kernel interfaces that are not the run's own."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.execution import seccomp

from .conftest import Outcome, said

Submit = Callable[..., Outcome]


def test_run_sees_its_own_files_and_nothing_else(submit: Submit, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "part.txt").write_text("data")
    outcome = submit(
        "import os, sys, json\n"
        "print(json.dumps([open(sys.argv[2]).read(), open(os.environ['DATASET_DIR'] + '/part.txt').read(),"
        " sorted(os.listdir('/sandbox')), sorted(os.listdir('/sandbox/code')), sys.argv[1::2]]))",
        dataset_dir=str(dataset),
    )
    assert said(outcome) == [
        "seed: 1\n",
        "data",
        ["code", "config.yaml", "dataset", "output"],
        ["attack.py", "main.py"],
        ["--config", "--output"],
    ]
    assert outcome.result.succeeded


def test_host_files_are_not_there(submit: Submit, executor: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    # A run has files of such names too, and an image some more; what is in them must not be the host's.
    shared = ["/etc/passwd", "/proc/1/root/etc/passwd", "/proc/self/root/etc/passwd", "/etc/hosts", "/etc/group"]
    shared += ["/root", "/home"] if executor == "container" else []
    own = {path: _content(path.removeprefix("/proc/1/root").removeprefix("/proc/self/root")) for path in shared}
    own |= {"/usr/bin/sh": None} if executor == "container" else {}
    outcome = submit(f"""
from attack import *
for path in ["/etc/passwd", "/etc/shadow", "/root", "/home", {str(secret)!r}, {str(tmp_path)!r}, {os.getcwd()!r} + "/manage.py",
             "/proc/1/root/etc/passwd", "/proc/self/root/etc/passwd", "/oldroot", "/var/run/docker.sock", "/usr/bin/sh",
             "/run/podman/podman.sock", "/run/secrets", "/var/lib/containers", "/sandbox/volumes"]:
    if path not in {list(own)!r}:
        attempt("read " + path, lambda: os.listdir(path) and path not in ("/root",) if os.path.isdir(path) else open(path).read())
for path, host in {own!r}.items():
    attempt("read the host's " + path, lambda: host and (sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read()) == host)
""")
    outcome.assert_held()


def _content(path: str) -> object:
    return sorted(os.listdir(path)) if os.path.isdir(path) else Path(path).read_text()


def test_read_only_folders_stay_read_only(submit: Submit, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir(mode=0o777)
    (dataset / "part.txt").write_text("data")
    outcome = submit(
        """
from attack import *
for folder in ["/", "/sandbox", "/sandbox/code", "/sandbox/dataset", "/dev", "/usr", "/proc", "/proc/sys/kernel", sys.prefix]:
    attempt("write into " + folder, lambda: open(folder + "/new", "w"))
for path in ["/sandbox/code/main.py", "/sandbox/config.yaml", "/sandbox/dataset/part.txt", sys.executable]:
    attempt("append to " + path, lambda: open(path, "a"))
    attempt("remove " + path, lambda: os.unlink(path) is None)
    attempt("chmod " + path, lambda: os.chmod(path, 0o777) is None)
""",
        dataset_dir=str(dataset),
    )
    outcome.assert_held()
    assert (dataset / "part.txt").read_text() == "data"


def test_environment_holds_only_what_was_given(submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://very-secret")
    outcome = submit(
        "import os, json, glob\n"
        "found = [path for path in glob.glob('/proc/[0-9]*/environ') if b'very-secret' in open(path, 'rb').read()]\n"
        "print(json.dumps([dict(os.environ), found, sorted(os.listdir('/proc/self/fd'))]))",
        environment={"ALLOWED": "yes", "HOME": "/root"},
    )
    environment, found, descriptors = said(outcome)
    assert environment["ALLOWED"] == "yes"
    assert environment["HOME"] == "/tmp"
    assert not found and "very-secret" not in outcome.log
    assert not {
        name for name in environment if name.startswith(("DATABASE", "DJANGO", "REDIS", "SECRET", "AWS", "MLFLOW"))
    }
    # 3 is the folder that is being listed.
    assert descriptors == ["0", "1", "2", "3"]


def test_no_socket_reaches_the_host(submit: Submit, tmp_path: Path) -> None:
    unix_path = tmp_path / "socket"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        named.bind(str(unix_path))
        named.listen()
        unix_path.chmod(0o777)
        abstract.bind("\0leadersboard-attack")
        abstract.listen()
        outcome = submit(f"""
import socket
from attack import *

def connect(family, kind, address):
    with socket.socket(family, kind) as client:
        client.settimeout(1)
        return client.connect(address) is None

attempt("loopback", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {listener.getsockname()[1]})))
attempt("metadata", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)))
attempt("internet", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 443)))
attempt("udp", lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("1.1.1.1", 53)))
attempt("ipv6", lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("2606:4700:4700::1111", 443)))
attempt("name", lambda: socket.getaddrinfo("example.com", 80))
attempt("unix", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, {str(unix_path)!r}))
attempt("abstract", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\\0leadersboard-attack"))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
for family in (17, 40, 38, 31, 29, 15, 44):  # packet, vsock, alg, bluetooth, can, key, xdp
    attempt(f"family {{family}}", lambda: socket.socket(family, socket.SOCK_DGRAM if family != 40 else socket.SOCK_STREAM))
""")
    outcome.assert_held()


def test_every_denied_call_is_denied(submit: Submit) -> None:
    outcome = submit(f"""
from attack import *
for name, number in {seccomp.denied_calls()!r}.items():
    attempt(name, lambda: call(number, 0, 0, 0, 0, 0, 0) != 1)
""")
    outcome.assert_held()
    assert outcome.log.count("held") == len(seccomp.denied_calls())


def test_namespaces_keyrings_and_other_processes_are_out_of_reach(submit: Submit) -> None:
    outcome = submit("""
from attack import *
import fcntl, signal
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000):
    attempt(f"unshare {flag:#x}", lambda: libc.unshare(flag) == 0)
    attempt(f"clone {flag:#x}", lambda: call(56, flag | 17, 0, 0, 0, 0) == 0)
attempt("clone3", lambda: call(435, 0, 0) != 38)
attempt("setuid", lambda: os.setuid(0) is None)
attempt("setgroups", lambda: os.setgroups([0]) is None)
attempt("chroot", lambda: os.chroot("/tmp") is None)
attempt("mknod", lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0)) is None)
attempt("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0)
attempt("ptrace 1", lambda: libc.ptrace(16, 1, 0, 0) == 0)
attempt("keyctl", lambda: call(250, 0, -3, 1) == 0)
attempt("memory of 1", lambda: open("/proc/1/mem", "rb").read(1))
attempt("sethostname", lambda: libc.sethostname(b"x", 1) == 0)
attempt("nice", lambda: os.nice(-5) is None)
attempt("terminal input", lambda: fcntl.ioctl(0, 0x5412, b"x") is not None)
attempt("other pids", lambda: [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) > 10])
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
attempt("capabilities", lambda: any(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))
attempt("seccomp off", lambda: status["Seccomp"] != "2")
attempt("new privileges", lambda: status["NoNewPrivs"] != "1")
attempt("root", lambda: 0 in (os.getuid(), os.getgid(), os.geteuid()))
for knob in ("core_pattern", "modprobe", "hostname", "pid_max"):
    attempt(knob, lambda: open("/proc/sys/kernel/" + knob, "w"))
attempt("sysrq", lambda: open("/proc/sysrq-trigger", "w"))
attempt("sys", lambda: os.listdir("/sys"))
attempt("block devices", lambda: [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "kmsg", "mem", "kvm"))])
""")
    outcome.assert_held()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the 32-bit ABI of x86")
def test_another_abi_is_killed(submit: Submit) -> None:
    # int 0x80 with eax = 20 (getpid of i386), which the list of x86_64 numbers knows as something else.
    outcome = submit("""
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print("called", function())
""")
    assert "called" not in outcome.log
    assert outcome.result.signal == 31


def test_setuid_files_and_programs_do_not_come_out_of_the_output(submit: Submit) -> None:
    outcome = submit("""
from attack import *
import shutil, subprocess
shutil.copy(os.path.realpath(sys.executable), OUTPUT + "/program")
os.chmod(OUTPUT + "/program", 0o6755)
attempt("execute", lambda: subprocess.run([OUTPUT + "/program", "-c", ""]).returncode == 0)
""")
    outcome.assert_held()
    staged = outcome.run_dir / "artifacts" / "program"
    if staged.exists():
        assert staged.stat().st_mode & 0o7777 == 0o600
        assert staged.stat().st_uid == os.geteuid()
