"""A run finds the few files of /etc that programs expect, and nothing of the host in them."""

from collections.abc import Callable

from .conftest import Outcome


def test_run_finds_names_an_account_and_time_zones(submit: Callable[..., Outcome]) -> None:
    outcome = submit("""
import getpass, grp, os, pathlib, pwd, socket, time, zoneinfo
began = time.monotonic()
for name in ("localhost", "sandbox", socket.gethostname()):
    assert socket.gethostbyname(name) == "127.0.0.1", name
with socket.create_server(("localhost", 0)) as server, socket.create_connection(("localhost", server.getsockname()[1])):
    pass
for kind in (socket.AF_INET, socket.AF_INET6):
    socket.getaddrinfo("localhost", 29500, kind)
try:
    socket.gethostbyname("example.com")
    raise SystemExit("a name of the world was found")
except socket.gaierror:
    pass
assert time.monotonic() - began < 5, "names took long"
os.environ.pop("USER"), os.environ.pop("LOGNAME")
assert getpass.getuser() == pwd.getpwuid(os.getuid()).pw_name == grp.getgrgid(os.getgid()).gr_name == "sandbox"
assert pwd.getpwnam("sandbox").pw_dir == os.path.expanduser("~") == "/tmp"
assert len(pwd.getpwall()) == len(grp.getgrall()) == 1
assert zoneinfo.ZoneInfo("Asia/Tokyo").key and str(pathlib.Path.home()) == "/tmp"
""")
    assert (outcome.result.reason, outcome.result.exit_code) == ("exited", 0), outcome
