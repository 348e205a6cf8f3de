"""A classic-BPF system call filter for `bwrap --seccomp` and containers, written out here because it is small and a library is one more risk.

A deny-list in the manner of Flatpak's: calls that reach other processes' memory, namespaces, mounts, keyrings (which no
namespace separates), kernel loading and the young, large interfaces (io_uring, bpf, userfaultfd), and asynchronous I/O by io_setup, whose requests the whole
machine shares. All requests to file systems (`ioctl`) are refused: they tell where on the disk a file lies, and so in which
order files were written. Where memory is counted by processes and not by a control group, memory that belongs to no process is
refused as well. The numbers are the kernel's, per architecture.
"""

import errno
import json
import os
import platform
import struct
from collections.abc import Collection
from typing import Any

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
# Offsets in struct seccomp_data.
_CALL, _ARCHITECTURE, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24

_AUDIT_X86_64, _AUDIT_AARCH64 = 0xC000003E, 0xC00000B7
_X32_BIT = 0x40000000
_LOW_32 = 0xFFFFFFFF
_CLONE_NEW_ANY = 0x7E020000  # NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET
_TIOCSTI, _TIOCLINUX, _FIBMAP = 0x5412, 0x541C, 0x0001
# The second byte of an ioctl's number is its type. These types belong to file systems and block devices (addresses on
# the disk, generations and flags of inodes, ids of the file system); terminals, sockets and GPUs have others.
_IOCTL_TYPE = 0xFF00
FILE_SYSTEM_TYPES = {
    "block devices": 0x12, "any file system, ids": 0x15, "XFS, any file system": 0x58, "ext4, any file system": 0x66,
    "HFS+": 0x68, "UDF": 0x6C, "NILFS": 0x6E, "FAT": 0x72, "inode versions": 0x76, "Btrfs, clones": 0x94, "Ceph": 0x97,
    "bcachefs": 0xBC, "ReiserFS": 0xCD, "SMB": 0xCF, "F2FS": 0xF5,
}  # fmt: skip
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
FAMILIES = (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)

# Calls with one number on every architecture (all that came after Linux 5.0).
_COMMON = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447,
    "set_mempolicy_home_node": 450, "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip

_DENIED = {
    "x86_64": _COMMON | {
        "ptrace": 101, "syslog": 103, "uselib": 134, "personality": 135, "vhangup": 153, "modify_ldt": 154,
        "pivot_root": 155, "_sysctl": 156, "chroot": 161, "acct": 163, "mount": 165, "umount2": 166, "swapon": 167,
        "swapoff": 168, "reboot": 169, "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176,
        "quotactl": 179, "lookup_dcookie": 212, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "migrate_pages": 256, "unshare": 272,
        "io_setup": 206, "move_pages": 279, "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303,
        "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": _COMMON | {
        "io_setup": 0, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "vhangup": 58, "quotactl": 60, "acct": 89, "personality": 92,
        "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "syslog": 116, "ptrace": 117,
        "reboot": 142, "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225, "mbind": 235,
        "get_mempolicy": 236, "set_mempolicy": 237, "migrate_pages": 238, "move_pages": 239, "perf_event_open": 241,
        "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280,
        "userfaultfd": 282, "kexec_file_load": 294,
    },
}  # fmt: skip
# What can hold memory after every process has let go of it: segments of System V, files without a name that wait in a
# socket. memfd_create stays open to runs with a GPU: CUDA does not start without it.
_UNCOUNTED = {
    "x86_64": {"shmget": 29, "semget": 64, "msgget": 68, "memfd_create": 319},
    "aarch64": {"msgget": 186, "semget": 190, "shmget": 194, "memfd_create": 279},
}
_INSPECTED = {
    "x86_64": {"clone": 56, "clone3": 435, "ioctl": 16, "socket": 41},
    "aarch64": {"clone": 220, "clone3": 435, "ioctl": 29, "socket": 198},
}
_AUDIT = {"x86_64": _AUDIT_X86_64, "aarch64": _AUDIT_AARCH64}


class UnsupportedMachine(RuntimeError):
    """No table for this processor: the sandbox must not start without its filter."""


def denied_calls(machine: str | None = None) -> dict[str, int]:
    """Name -> number of the calls that are refused whatever their arguments."""
    return dict(_DENIED[_supported(machine)])


def uncounted_calls(machine: str | None = None, *, has_gpu: bool = False) -> dict[str, int]:
    """Name -> number of the calls that are refused, too, where no control group counts memory."""
    return {
        name: call for name, call in _UNCOUNTED[_supported(machine)].items() if not (has_gpu and name == "memfd_create")
    }


def build_filter(machine: str | None = None, more: Collection[int] = ()) -> bytes:
    """The program as an array of struct sock_filter; `more` are calls to refuse beside the list.

    Each block below ends in a return; jumps count instructions."""
    machine = _supported(machine)
    inspected = _INSPECTED[machine]
    refuse = _ERRNO | errno.EPERM
    # A call made through another ABI (i386, x32) has other numbers and would walk past the list: kill.
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, _KILL_PROCESS)]
    program += [(_LOAD, 0, 0, _CALL)]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL_PROCESS)]
    for number in sorted({*_DENIED[machine].values(), *more}):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]
    # clone3 keeps its flags behind a pointer that no filter can follow; ENOSYS makes the C library fall back to clone.
    program += [(_EQUAL, 0, 1, inspected["clone3"]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    program += [
        (_EQUAL, 0, 4, inspected["clone"]),
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_ANY_BIT, 0, 1, _CLONE_NEW_ANY),
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program += _ioctl_block(inspected["ioctl"], refuse)
    # The network namespace does not cover every family (AF_VSOCK reaches the hypervisor): allow only what is namespaced.
    program += [(_EQUAL, 0, len(FAMILIES) + 2, inspected["socket"]), (_LOAD, 0, 0, _ARGUMENT_0)]
    program += [(_EQUAL, len(FAMILIES) - index, 0, family) for index, family in enumerate(FAMILIES)]
    program += [(_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _ioctl_block(number: int, refuse: int) -> list[tuple[int, int, int, int]]:
    """Refuse some commands and all types of file systems. A filter sees 64 bits of a command; the kernel uses the low 32."""
    commands, types = (_TIOCSTI, _TIOCLINUX, _FIBMAP), sorted(FILE_SYSTEM_TYPES.values())
    tests = [(_EQUAL, command) for command in commands]
    tests += [(_AND, _IOCTL_TYPE), *((_EQUAL, kind << 8) for kind in types)]
    block = [(_EQUAL, 0, len(tests) + 3, number), (_LOAD, 0, 0, _ARGUMENT_1)]
    # A test that holds jumps to the last instruction, past the remaining tests and the one that allows.
    block += [(code, len(tests) - at if code == _EQUAL else 0, 0, value) for at, (code, value) in enumerate(tests)]
    return [*block, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, refuse)]


def engine_profile(machine: str | None = None) -> str:
    """The same list as a container engine wants it: JSON, calls by name. What libseccomp does not know, it drops."""
    machine = _supported(machine)
    refuse: dict[str, Any] = {"action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}
    rules = [{"names": sorted(_DENIED[machine]), **refuse}]
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    flags = [1 << bit for bit in range(64) if _CLONE_NEW_ANY >> bit & 1]
    rules += [{"names": ["clone"], **refuse, "args": [_masked(0, flag, flag)]} for flag in flags]
    # The kernel reads 32 bits of these; a comparison of 64 could be walked past.
    refused = [_masked(1, _LOW_32, command) for command in (_TIOCSTI, _TIOCLINUX, _FIBMAP)]
    refused += [_masked(1, _IOCTL_TYPE, kind << 8) for kind in sorted(FILE_SYSTEM_TYPES.values())]
    rules += [{"names": ["ioctl"], **refuse, "args": [condition]} for condition in refused]
    family: dict[str, Any] = {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EAFNOSUPPORT}
    others = [number for number in range(max(FAMILIES)) if number not in FAMILIES]
    rules += [{**family, "args": [_masked(0, _LOW_32, number)]} for number in others]
    rules.append({**family, "args": [{"index": 0, "value": max(FAMILIES), "op": "SCMP_CMP_GT"}]})
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [f"SCMP_ARCH_{machine.upper()}"], "syscalls": rules}
    return json.dumps(profile)


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def filter_descriptor(more: Collection[int] = ()) -> int:
    """An in-memory file with the filter, rewound, to be handed to bwrap."""
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    os.write(descriptor, build_filter(more=more))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _supported(machine: str | None) -> str:
    machine = machine or platform.machine()
    if machine not in _DENIED:
        raise UnsupportedMachine(f"no system call table for {machine}")
    return machine
