"""The served client on machines of every kind: what it packs, how it speaks, and whose fault it calls a fault."""

import ast
import errno
import io
import json
import os
import re
import socket
import string
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.conf import settings

from leaderboard_site.client import Client, NoAnswer, commands, connection, faults, language, main, packing
from leaderboard_site.client.japanese import JAPANESE
from leaderboard_site.program import SHARED, program

PACKAGE = Path(settings.BASE_DIR, "leaderboard_site", "client")
JOB = "0b8f9d8e-0000-4000-8000-000000000001"
LOG = "検査 完了 ✅\nLeadersBoard: big.png was left out: too large.\n"
NOTES = {"en": ["big.png was left out: too large.", "Another note."], "ja": ["big.pngは除外されました。", "別の注。"]}


class FakeSite(BaseHTTPRequestHandler):
    """Completes every job at once."""

    def answer(self, value, status=200, headers=()):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in [*headers, ("Content-Length", str(len(content)))]:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent.append((self.path, body))
        self.answer({"submission_id": JOB, "job_id": JOB, "status": "pending"}, 201)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if self.server.failures:
            self.server.failures.pop()
            self.close_connection = True
            return
        if path.endswith("/logs"):
            offset = int(query.removeprefix("offset="))
            content = LOG.encode()[offset:]
            self.answer(content, headers=[("X-Next-Offset", str(len(LOG.encode())))])
        elif path.endswith("/results"):
            self.answer(
                {"params": {}, "metrics": {"image_auc": 0.5}, "artifacts": [], "run_id": None, "mlflow_ui_link": None}
            )
        elif path.endswith("/entries"):
            self.answer({"entries": [], "metric": "image_auc"})
        else:
            ranking = {"is_on_board": False, "reason": "Not on the board."}
            names = ("job_id", "submission_id", "leaderboard", "score", "error_code", "error_message", "user_id")
            notes = NOTES[self.headers["Accept-Language"]]
            more = {
                "trial": False,
                "wall_seconds": 1.0,
                "status": "completed",
                "attempt": 1,
                "notes": notes,
                "ranking": ranking,
            }
            self.answer({**dict.fromkeys(names, "x"), **more})

    def log_message(self, *given):
        pass


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeSite)
    server.sent, server.failures = [], []
    server.handle_error = lambda *given: None  # a client that went away
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.py").write_text("print('hello')\n")
    (tmp_path / "client.pyz").write_bytes(program())
    return folder


@pytest.fixture
def start(site, code):
    """Start the served file as on another machine."""

    def run(*arguments, shell="", **environment):
        own = {"LEADERSBOARD_URL": site.url, "LEADERSBOARD_TOKEN": "lb_x", "PATH": os.environ["PATH"], **environment}
        command = [sys.executable, "-I", "-S", str(code.parent / "client.pyz"), *map(str, arguments)]
        if "PYTHONIOENCODING" in environment:
            command.remove("-I")
        if shell:
            command = ["bash", "-c", f'"$@" {shell}', "bash", *command]
        return subprocess.run(command, env=own, cwd=code.parent, capture_output=True, timeout=30, check=False)

    return run


# --- this machine's faults are not the site's ------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["cp932", "ascii", "latin-1", "utf-8"])
def test_a_console_without_the_letters_shows_others_in_their_place(start, code, encoding):
    done = start(code, PYTHONIOENCODING=f"{encoding}:strict", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert ("検査 完了" in done.stdout.decode(encoding)) == (encoding in ("cp932", "utf-8"))
    told = start(code, "--json", PYTHONIOENCODING=f"{encoding}:strict", PYTHONUTF8="0").stdout.decode(encoding)
    assert json.loads(told)["url"].endswith(f"/jobs/{JOB}/")


@pytest.mark.parametrize(
    ("shell", "exit_code", "said"),
    [
        ("| true; exit ${PIPESTATUS[0]}", faults.PIPE_CLOSED, ""),
        ("2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}", faults.COMPLETED, ""),
        (">&-", faults.COMPLETED, "enqueued"),
        (">&- 2>&-", faults.COMPLETED, ""),
        ("> /dev/full", faults.THIS_MACHINE, "This machine: Standard output cannot be written: No space left"),
    ],
)
def test_a_standard_output_that_fails_is_no_fault_of_the_site(start, code, shell, exit_code, said):
    done = start(code, shell=shell)
    told = done.stderr.decode()
    assert (done.returncode, said in told, "does not answer" in told, "Traceback" in told) == (
        exit_code, True, False, False,
    ), told  # fmt: skip
    assert said != "" or "fault" not in told


def test_a_log_that_is_shown_names_what_was_left_out_once(start, code):
    done = start(code, LANG="en_US.UTF-8")
    assert done.stdout.decode().count("big.png") == 1 and "Note: Another note." in done.stdout.decode()
    told = start(code, "--lang", "ja", PYTHONIOENCODING="utf-8").stdout.decode()
    assert told.count("big.png") == 1 and "注：別の注。" in told


def in_process(*arguments, url="http://127.0.0.1:9"):
    out, err = io.StringIO(), io.StringIO()
    code = main.run([*map(str, arguments), "--url", url, "--token", "lb_x", "--lang", "en"], "client", out, err)
    return code, out.getvalue(), err.getvalue()


def test_a_long_name_of_a_folder_is_sent(site, tmp_path):
    folder = tmp_path / ("n" * 250)
    folder.mkdir()
    (folder / "main.py").write_text("")
    assert in_process(folder, "--no-follow", url=site.url)[0] == faults.COMPLETED
    assert b'filename="code.tar.gz"' in site.sent[0][1]


@pytest.mark.parametrize(
    ("make", "exit_code", "said"),
    [
        (lambda folder: folder / ("n" * 300), faults.THIS_MACHINE, "File name too long"),
        (lambda folder: _file(folder, b"caf\xe9.py"), faults.USAGE, "is not UTF-8"),
        (lambda folder: _file(folder, b'a"b.py'), faults.USAGE, "quotation mark"),
        (lambda folder: _file(folder, b"in/caf\xe9.py").parent, faults.USAGE, "is not UTF-8"),
        (lambda folder: _fifo(folder), faults.USAGE, "neither a file nor a folder"),
    ],
)
def test_what_cannot_be_sent_is_told_before_anything_is(tmp_path, make, exit_code, said):
    done, _, err = in_process(make(tmp_path))
    assert (done, said in err, "does not answer" in err) == (exit_code, True, False), err


def _file(folder, name):
    path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    return path


def _fifo(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("as_folder", [True, False])
def test_a_disk_that_fails_is_a_fault_of_this_machine(site, code, monkeypatch, number, as_folder):
    def refused(self, *given, **named):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "open", refused)
    done, _, err = in_process(code if as_folder else code / "main.py", url=site.url)
    assert (done, os.strerror(number) in err, "does not answer" in err) == (faults.THIS_MACHINE, True, False), err


def test_an_unreadable_file_of_a_folder_is_named(code, monkeypatch):
    (code / "secret.txt").write_text("")
    opened = Path.open

    def refused(self, *given, **named):
        if self.name == "secret.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *given, **named)

    monkeypatch.setattr(Path, "open", refused)
    done, _, err = in_process(code)
    assert (done, f"A file cannot be read: Permission denied: {code}/secret.txt." in err) == (
        faults.THIS_MACHINE,
        True,
    ), err


def test_no_place_for_temporary_files(code, monkeypatch):
    monkeypatch.setattr(packing.tempfile, "tempdir", str(code / "nowhere"))
    assert in_process(code)[0] == faults.THIS_MACHINE


def test_a_fault_of_the_program_is_a_sentence_too(code, monkeypatch):
    monkeypatch.setattr(packing, "_write", lambda *given: 1 // 0)
    done, _, err = in_process(code)
    assert (done, "ZeroDivisionError" in err, "Traceback" in err) == (faults.CLIENT_FAULT, True, False)


@pytest.mark.parametrize(
    ("url", "exit_code"),
    [
        ("http://127.0.0.1:9", faults.UNREACHABLE), ("http://[x", faults.USAGE), ("http://a b", faults.USAGE),
        ("http://x:port", faults.USAGE), ("http://" + "ü" * 70, faults.USAGE),
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_wrong_usage(code, url, exit_code):
    assert in_process(code / "main.py", url=url)[0] == exit_code


def test_ctrl_c_while_it_packs(code, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "_write", interrupted)
    done, _, err = in_process(code)
    assert (done, "Nothing was enqueued" in err) == (faults.INTERRUPTED, True)


def test_a_network_that_is_away_for_a_while_is_waited_for(site, code, monkeypatch):
    monkeypatch.setattr(connection, "FIRST_PAUSE_SECONDS", 0.01)
    for lost in range(1, 4):
        site.failures[:] = [1] * lost
        done, out, err = in_process("follow", JOB, url=site.url)
        assert (done, "image_auc" in out, err.count("trying again"), err.count("answers again")) == (0, True, 1, 1), err


def test_every_fault_of_the_network_is_one_exception():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=lambda: silent.accept()[0].close(), daemon=True).start()
        with pytest.raises(NoAnswer):
            Client(f"http://127.0.0.1:{silent.getsockname()[1]}").json("GET", "/x")


# --- language and form -----------------------------------------------------------------------------------------------
def sentences():
    """Every sentence that the code looks up, with the examples' and statuses'."""
    found = {"pending", "running", "completed", "failed", "cancelled"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "say"
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(node.args[0].value)
    for name in commands.NAMES:
        found |= {does for _line, does in commands.load(name).EXAMPLES}
    return found


def test_both_languages_have_every_sentence_with_the_same_fields():
    assert sorted(sentences() ^ set(JAPANESE)) == []

    def fields(sentence):
        return sorted({field for _, field, _, _ in string.Formatter().parse(sentence) if field})

    assert [key for key, text in JAPANESE.items() if fields(key) != fields(text) or not text.strip()] == []


@pytest.mark.parametrize(
    ("arguments", "environment", "encoding", "chosen"),
    [
        ([], {}, "utf-8", "en"),
        ([], {"LANG": "ja_JP.UTF-8"}, "utf-8", "ja"),
        ([], {"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "utf-8", "en"),
        ([], {"LANG": "ja_JP.UTF-8"}, "cp932", "ja"),
        ([], {"LANG": "ja_JP.UTF-8"}, "ascii", "en"),
        (["--lang", "ja"], {"LANG": "C"}, "utf-8", "ja"),
        (["--lang=en"], {"LANG": "ja_JP.UTF-8"}, "utf-8", "en"),
    ],
)
def test_the_language_is_the_readers(arguments, environment, encoding, chosen):
    assert language.choose(arguments, environment, encoding) == chosen


def test_it_speaks_japanese(start):
    told = start("--help", LANG="ja_JP.UTF-8", PYTHONIOENCODING="utf-8").stdout.decode()
    assert "使い方： python3 client.pyz" in told and "終了コード：" in told and "usage" not in told
    assert "--job: 値が必要です。" in start("--job", "--lang", "ja", PYTHONIOENCODING="utf-8").stderr.decode()


@pytest.mark.parametrize("name", commands.NAMES)
def test_each_command_teaches_itself_and_has_json(capsys, name):
    with pytest.raises(SystemExit):
        main.create_parser("client").parse_args([name, "--help"])
    told = capsys.readouterr().out
    assert (
        told.count("usage:") == 1
        and "examples:" in told
        and "--json" in told
        and f"client {commands.load(name).EXAMPLES[0][0]}" in told
    )


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["code/"], "submit"), (["submit", "code/"], "submit"), (["--url", "http://x", "code/"], "submit"), ([], "submit"),
        (["--json", "list"], "list"), (["--lang=ja", "--token", "list", "results", JOB], "results"), (["./list"], "submit"),
    ],
)  # fmt: skip
def test_submit_may_be_left_out(arguments, command):
    assert main.create_parser("client").parse_args(arguments).command == command


def test_the_documents_tell_every_exit_code():
    page = Path(settings.BASE_DIR, "docs", "commands.md").read_text()
    documented = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert list(map(int, documented)) == [*range(7), faults.INTERRUPTED, faults.PIPE_CLOSED]


def test_its_code_is_of_python_3_9_and_of_its_standard_library():
    for path in [*PACKAGE.rglob("*.py"), *SHARED]:
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name for name in imported if name.startswith("leaderboard_site")} == {
            name for name in imported if name.startswith("leaderboard_site.client")
        }
        shared = {f"core.{path.stem}" for path in SHARED}
        assert {name for name in imported if name.startswith("core")} <= shared
        assert {name.partition(".")[0] for name in imported} - {"leaderboard_site", "core"} <= sys.stdlib_module_names
