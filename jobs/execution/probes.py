"""The programs that the preflight submits. They run in the sandbox with the runner's Python, and only its standard library."""

_LOOK_AROUND = r"""
import ctypes, errno, fcntl, glob, json, os, socket, stat, sys

targets = json.loads(os.environ.pop("LEADERSBOARD_PROBE_TARGETS"))
output = sys.argv[sys.argv.index("--output") + 1]
libc = ctypes.CDLL(None, use_errno=True)
said = {}


def attempt(name, action):
    try:
        said[name] = action()
    except OSError as error:
        said[name] = error.strerror or str(error)


def read(path):
    return "OPEN: it was read" if open(path).read() == targets["marker"] else "nothing there"


def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(address)
    return "OPEN: connected"


def kernel_knob():
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "OPEN: it could be written"


def leaked_descriptor():
    for number in range(3, 1024):
        try:
            kind = os.fstat(number)
        except OSError:
            continue
        return f"OPEN: descriptor {number}, mode {stat.filemode(kind.st_mode)}"
    return "none"


def environment():
    secret = "".join(targets["secret_parts"]).encode()
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            if secret in open(path, "rb").read():
                return f"OPEN: found in {path}"
        except OSError:
            pass
    return "not in any environment"


def host_state():
    for path in targets["hidden"]:
        try:
            with open(path, "rb") as file:
                if file.read(1):
                    return f"OPEN: {path} could be read"
        except OSError:
            pass
    return f"nothing in {len(targets['hidden'])} files"


def call(what, *arguments):
    if what(*arguments) == 0:
        return "OPEN: it worked"
    return os.strerror(ctypes.get_errno())


def file_address():
    with open(__file__, "rb") as file:
        try:
            fcntl.ioctl(file, 0xC020660B, bytearray(32))  # FS_IOC_FIEMAP
        except OSError as error:
            if error.errno == errno.EPERM:
                return error.strerror
            return f"OPEN: only the file system answered: {error.strerror}"
    return "OPEN: it was told"


def privileges():
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    if os.getuid() == 0 or int(status["CapEff"], 16) or int(status["CapBnd"], 16) or status["NoNewPrivs"] != "1":
        return f"OPEN: uid {os.getuid()}, capabilities {status['CapEff']}, no_new_privs {status['NoNewPrivs']}"
    return "no capability, no_new_privs set"


def output_quota():
    written = 0
    with open(output + "/big", "wb", buffering=0) as file:
        try:
            while written <= 4 * targets["output_bytes"]:
                written += file.write(b"x" * 65536)
        except OSError as error:
            if written <= targets["output_bytes"]:
                return f"{error.strerror} after {written} bytes"
    return f"OPEN: {written} bytes were written"


attempt("leaked_descriptor", leaked_descriptor)
attempt("host_file", lambda: read(targets["public"]))
attempt("other_users_file", lambda: read(targets["private"]))
attempt("loopback", lambda: connect(socket.AF_INET, ("127.0.0.1", targets["port"])))
attempt("abstract_socket", lambda: connect(socket.AF_UNIX, "\0" + targets["marker"]))
attempt("kernel_knob", kernel_knob)
attempt("environment", environment)
attempt("host_state", host_state)
attempt("user_namespace", lambda: call(libc.unshare, 0x10000000))
attempt("mount", lambda: call(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None))
attempt("file_address", file_address)
attempt("privileges", privileges)
attempt("output_quota", output_quota)
print(json.dumps(said), flush=True)
"""

_FORK = r"""
import json, os, time

limit = json.loads(os.environ["LEADERSBOARD_PROBE_TARGETS"])["processes"]
started = 0
while started < limit + 30:
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    started += 1
print(json.dumps({"started": started}), flush=True)
"""

_MEMORY = r"""
import json, os, time

limit = json.loads(os.environ["LEADERSBOARD_PROBE_TARGETS"])["memory_bytes"]
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(limit // 2)
        for place in range(0, len(held), 4096):
            held[place] = 1
        time.sleep(3)
        os._exit(0)
statuses = [os.wait()[1] for _ in range(4)]
print(json.dumps({"survived": not any(statuses)}), flush=True)
"""

_DAEMON = r"""
import json, os, signal, sys, time

marker = json.loads(os.environ["LEADERSBOARD_PROBE_TARGETS"])["marker"]
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.write(told, b"x")
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", "daemon-" + marker])
    os._exit(0)
os.read(ready, 1)
time.sleep(0.1)
print(json.dumps({"left_behind": True}), flush=True)
"""

PROGRAMS = {"look_around.py": _LOOK_AROUND, "fork.py": _FORK, "memory.py": _MEMORY, "daemon.py": _DAEMON}
