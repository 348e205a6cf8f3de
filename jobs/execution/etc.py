"""Files in /etc that programs expect, with nothing of the host in them.

Without a name for this machine `torch.distributed` waits for `localhost` until the time limit; without an account
`getpass.getuser` and `os.path.expanduser` fail.
"""

# Debian's Python packages, zoneinfo's default and pandas all look for time zones here.
TIME_ZONES = "/usr/share/zoneinfo"


def files(uid: int) -> dict[str, bytes]:
    """Return the content of the files by path, for a program that runs as this user."""
    return {
        "/etc/hosts": b"127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n",
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
        "/etc/passwd": f"sandbox:x:{uid}:{uid}:sandbox:/tmp:/usr/sbin/nologin\n".encode(),
        "/etc/group": f"sandbox:x:{uid}:\n".encode(),
    }
