"""The reverse proxy: the real one, in front of a server that tells what arrived."""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from leaderboard_site.embedded import environments
from leaderboard_site.embedded.servers import free_port

from .conftest import ROOT

FILE = str(ROOT / "deploy" / "proxy" / "Caddyfile")


class Teller(BaseHTTPRequestHandler):
    posts = 0

    def do_POST(self) -> None:
        Teller.posts += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("log") / "caddy.log"


@pytest.fixture(scope="module")
def proxy(tool, tmp_path_factory, log) -> Iterator[str]:
    assert tool("caddy", "version").returncode == 0
    behind = ThreadingHTTPServer(("127.0.0.1", 0), Teller)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    home = str(tmp_path_factory.mktemp("caddy"))
    url, health = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    own = {
        "PATH": os.environ["PATH"], "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home, "SITE_ADDRESS": url,
        "HEALTH_ADDRESS": health, "WEB_ADDRESS": f"127.0.0.1:{behind.server_port}",
    }  # fmt: skip
    program = str(environments.folder("deploy") / "bin" / "caddy")
    command = [program, "run", "--config", FILE, "--adapter", "caddyfile"]
    with log.open("w") as lines, subprocess.Popen(command, env=own, stdout=lines, stderr=lines) as process:
        try:
            deadline = time.monotonic() + 180
            while status(health) != 200 or status(url) != 200:
                assert process.poll() is None and time.monotonic() < deadline, "the proxy did not come up"
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            behind.shutdown()
            behind.server_close()


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def test_file_is_valid_and_formatted(tool):
    assert tool("caddy", "validate", "--config", FILE, "--adapter", "caddyfile").returncode == 0
    assert tool("caddy", "fmt", FILE).stdout == (ROOT / "deploy" / "proxy" / "Caddyfile").read_text()


def test_addresses_that_a_client_claims_are_not_believed(proxy):
    claims = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    with urllib.request.urlopen(urllib.request.Request(f"{proxy}/jobs/", headers=claims), timeout=10) as answer:
        arrived = json.load(answer)
    host = proxy.removeprefix("http://")
    told = [arrived[name] for name in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "host", "path")]
    assert told == ["127.0.0.1", "http", host, host, "/jobs/"]


def test_metrics_are_not_for_people(proxy):
    assert [status(f"{proxy}{path}") for path in ("/metrics", "/metrics/", "/healthz")] == [404, 404, 200]


def test_a_head_that_is_too_long_is_refused(proxy):
    request = urllib.request.Request(f"{proxy}/", headers={"X-Long": "a" * 40_000})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    refused.value.close()
    assert refused.value.code == 431


def test_the_site_sees_a_small_body_when_it_is_whole(proxy):
    host, _, port = proxy.removeprefix("http://").partition(":")
    before = Teller.posts
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 200000\r\n\r\n".encode())
        client.sendall(b"a" * 199_999)
        time.sleep(1)
        assert Teller.posts == before
        client.sendall(b"a")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert Teller.posts == before + 1


def test_secrets_in_addresses_stay_out_of_the_log(proxy, log):
    secret = "Zr4k" * 8
    addresses = [
        f"/sign-up/?invitation={secret}", f"/sign-up?a=1&invitation={secret}", f"/sign%2Dup/?%69nvitation={secret}",
        f"/api/jobs?t=lb_{secret}&page=2", f"/sign-up/lbi_{secret}", f"/x?t=%6Cb%5f{secret}",
        f"/login/?next=/sign-up/%3Finvitation%3D{secret}", f"/x?X-Amz-Signature={secret}",
    ]  # fmt: skip
    for address in [*addresses, "/the-last-one/"]:
        request = urllib.request.Request(f"{proxy}{address}", headers={"Referer": f"{proxy}{address}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
    deadline = time.monotonic() + 30
    while "/the-last-one/" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert secret not in log.read_text()
    assert log.read_text().count("sign-up/?...") >= 1
