"""The system call filter read as the kernel reads it, for both processors: this machine can only try its own."""

import errno
import re
import struct
from pathlib import Path

import pytest

from jobs.execution import seccomp

_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_I386, _ARM = 0x40000003, 0x40000028
_OF_X86_ALONE = {"uselib", "modify_ldt", "_sysctl", "iopl", "ioperm", "lookup_dcookie"}
_ON_BOTH = {"clone": (56, 220), "ioctl": (16, 29), "socket": (41, 198), "read": (0, 63), "openat": (257, 56)}
# linux/fs.h, fiemap.h, fsmap.h, ext4, XFS, Btrfs, F2FS: where files lie, generations and flags of inodes.
FILE_SYSTEM_COMMANDS = {
    "FIBMAP": 0x1, "FS_IOC_FIEMAP": 0xC020660B, "FS_IOC_GETFSMAP": 0xC0C0583B, "FS_IOC_GETFLAGS": 0x80086601,
    "FS_IOC32_GETFLAGS": 0x80046601, "FS_IOC_SETFLAGS": 0x40086602, "FS_IOC_GETVERSION": 0x80087601,
    "FS_IOC32_GETVERSION": 0x80047601, "FS_IOC_FSGETXATTR": 0x801C581F, "FS_IOC_FSSETXATTR": 0x401C5820,
    "FS_IOC_GETFSUUID": 0x80111500, "FS_IOC_MEASURE_VERITY": 0xC0046686, "EXT4_IOC_GETVERSION": 0x80086603,
    "EXT4_IOC_GETSTATE": 0x40046629, "EXT4_IOC_GET_ES_CACHE": 0xC020662A, "XFS_IOC_GETBMAPX": 0xC0205838,
    "XFS_IOC_FSGEOMETRY": 0x8100587E, "BTRFS_IOC_TREE_SEARCH": 0xD0009411, "BTRFS_IOC_INO_LOOKUP": 0xD0009412,
    "FICLONE": 0x40049409, "F2FS_IOC_GET_FEATURES": 0x8004F50C,
}  # fmt: skip
# Terminals, pipes, descriptors, sockets, randomness, and NVIDIA's control, memory (numbers without a type) and mode setting.
PLAIN_COMMANDS = {
    "TCGETS": 0x5401, "TIOCGWINSZ": 0x5413, "FIONREAD": 0x541B, "FIONBIO": 0x5421, "FIONCLEX": 0x5450, "FIOCLEX": 0x5451,
    "FIOASYNC": 0x5452, "FIGETBSZ": 0x2, "SIOCGIFCONF": 0x8912, "RNDGETENTCNT": 0x80045200, "NV_ESC_RM_ALLOC": 0xC020462B,
    "NV_ESC_CARD_INFO": 0xC00046C8, "UVM_INITIALIZE": 0x30000001, "UVM_REGISTER_GPU": 37, "UVM_ALLOC_SEMAPHORE_POOL": 68,
    "NVKMS_IOCTL_CMD": 0xC0106D00, "DRM_IOCTL_VERSION": 0xC0406400,
}  # fmt: skip
machines = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def answer(program: bytes, machine: str, call: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter says to a call: classic BPF over struct seccomp_data."""
    given = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    words = [call, architecture or _ARCHITECTURES[machine], 0, 0]
    words += [word for value in given for word in (value & 0xFFFFFFFF, value >> 32)]
    instructions = list(struct.iter_unpack("<HBBI", program))
    place = accumulator = 0
    while True:
        code, if_true, if_false, constant = instructions[place]
        place += 1
        if code == 0x20:
            accumulator = words[constant // 4]
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return int(constant)
        else:
            tests = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}
            place += if_true if tests[code] else if_false


def number(name: str, machine: str) -> int:
    return _ON_BOTH[name][machine == "aarch64"]


@machines
def test_every_listed_call_is_refused_and_plain_ones_are_not(machine: str) -> None:
    program = seccomp.build_filter(machine)
    for name, call in seccomp.denied_calls(machine).items():
        assert answer(program, machine, call, 1, 1) == _REFUSE | errno.EPERM, name
    assert answer(program, machine, 435) == _REFUSE | errno.ENOSYS  # clone3
    for name in ("read", "openat"):
        assert answer(program, machine, number(name, machine)) == _ALLOW


@machines
def test_attributes_of_files_are_refused_as_calls_too(machine: str) -> None:
    """Linux 6.17 has calls of its own for FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR."""
    program = seccomp.build_filter(machine)
    assert [answer(program, machine, call) for call in (468, 469)] == [_REFUSE | errno.EPERM] * 2


@machines
def test_calls_with_arguments_are_looked_into(machine: str) -> None:
    program = seccomp.build_filter(machine)

    def said(name: str, *arguments: int) -> int:
        return answer(program, machine, number(name, machine), *arguments)

    for bit in (17, 25, 26, 27, 28, 29, 30):  # NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET
        assert said("clone", 1 << bit | 17) == _REFUSE | errno.EPERM
    assert said("clone", 0x3D0F00) == _ALLOW  # a thread
    for command in (0x5412, 0x541C, *FILE_SYSTEM_COMMANDS.values()):  # TIOCSTI TIOCLINUX
        assert said("ioctl", 0, command) == said("ioctl", 0, 1 << 32 | command) == _REFUSE | errno.EPERM, hex(command)
    for name, command in PLAIN_COMMANDS.items():
        assert said("ioctl", 0, command) == _ALLOW, name
    for kind in range(256):
        wanted = _REFUSE | errno.EPERM if kind in seccomp.FILE_SYSTEM_TYPES.values() else _ALLOW
        assert said("ioctl", 0, 0xC0200000 | kind << 8 | 0xFE) == said("ioctl", 0, kind << 8 | 0xFE) == wanted, kind
    for family in range(64):
        wanted = _ALLOW if family in seccomp.FAMILIES else _REFUSE | errno.EAFNOSUPPORT
        assert said("socket", family) == said("socket", 1 << 32 | family) == wanted, family


@machines
def test_another_abi_ends_the_process(machine: str) -> None:
    program = seccomp.build_filter(machine)
    for architecture in {*_ARCHITECTURES.values(), _I386, _ARM} - {_ARCHITECTURES[machine]}:
        assert answer(program, machine, 0, architecture=architecture) == _KILL
    if machine == "x86_64":
        assert answer(program, machine, 0x40000000 | 101) == _KILL  # x32's ptrace


@machines
@pytest.mark.parametrize("has_gpu", [False, True])
def test_memory_without_an_owner_is_refused_where_nothing_counts_it(machine: str, has_gpu: bool) -> None:
    calls = seccomp.uncounted_calls(machine, has_gpu=has_gpu)
    assert set(calls) == {"shmget", "semget", "msgget"} | (set() if has_gpu else {"memfd_create"})
    strict, usual = seccomp.build_filter(machine, calls.values()), seccomp.build_filter(machine)
    for call in calls.values():
        assert answer(strict, machine, call) == _REFUSE | errno.EPERM
        assert answer(usual, machine, call) == _ALLOW


def test_both_processors_refuse_the_same() -> None:
    intel, arm = (seccomp.denied_calls(machine) for machine in ("x86_64", "aarch64"))
    assert set(intel) - set(arm) == _OF_X86_ALONE
    assert not set(arm) - set(intel)
    for table in (intel, arm):
        assert len(set(table.values())) == len(table)
    later = {name for name, call in intel.items() if call >= 425}
    assert {name: arm[name] for name in later} == {name: intel[name] for name in later}


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_numbers_are_the_kernels(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed: the numbers were compared with nothing")
    kernels = dict(re.findall(r"^#define __NR3?2?6?4?_?_?(\w+)\s+(\d+)", Path(header).read_text(), re.MULTILINE))
    ours = seccomp.denied_calls(machine) | seccomp.uncounted_calls(machine)
    found = {name: int(kernels[name]) for name in ours if name in kernels}
    assert len(found) > 50
    assert found == {name: ours[name] for name in found}
