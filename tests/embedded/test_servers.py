"""The embedded servers start, answer, stop, survive crashes and disturb nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

from leaderboard_site.embedded import testing
from leaderboard_site.embedded.locations import LocationError, Locations
from leaderboard_site.embedded.processes import end_leftovers, start_time
from leaderboard_site.embedded.servers import free_port
from leaderboard_site.embedded.stack import AlreadyRunning, Stack

from .conftest import Launcher, wait_for


def write_and_read(locations: Locations, value: str) -> list[str]:
    with psycopg.connect(locations.database_url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (value,))
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def test_postgres_and_valkey_answer_on_sockets_only(launcher: Launcher) -> None:
    launcher.start("postgres", "valkey")
    assert write_and_read(launcher.locations, "a") == ["a"]
    with redis.Redis.from_url(launcher.locations.redis_url()) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert client.config_get("port") == {"port": "0"}
    with psycopg.connect(launcher.locations.database_url()) as connection:
        settings = {
            name: connection.execute(f"SHOW {name}").fetchone()[0]  # type: ignore[index,call-overload]
            for name in (
                "listen_addresses",
                "fsync",
                "synchronous_commit",
                "full_page_writes",
                "max_connections",
            )
        }
    assert settings == {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "max_connections": "200",
    }
    assert launcher.locations.sockets.stat().st_mode & 0o777 == 0o700


def test_data_stay_over_an_orderly_stop(launcher: Launcher) -> None:
    launcher.start("postgres", "valkey")
    write_and_read(launcher.locations, "a")
    with redis.Redis.from_url(launcher.locations.redis_url()) as client:
        client.set("key", "value")
    assert launcher.stop() == 0
    assert launcher.living() == []
    launcher.start("postgres", "valkey")
    assert write_and_read(launcher.locations, "b") == ["a", "b"]
    with redis.Redis.from_url(launcher.locations.redis_url()) as client:
        assert client.get("key") == b"value"


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_killing_the_starter_leaves_nothing(launcher: Launcher, name: str) -> None:
    launcher.start(name)
    assert len(launcher.living()) >= 2
    launcher.kill()
    assert wait_for(lambda: launcher.living() == []), launcher.living()


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_killing_starter_and_guard_leaves_nothing(launcher: Launcher, name: str) -> None:
    launcher.start(name)
    os.kill(launcher.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]  # so that it starts nothing again
    os.kill(launcher.guards[name], signal.SIGKILL)
    launcher.kill()
    assert wait_for(lambda: launcher.living() == []), launcher.living()


def test_killing_the_starter_of_mlflow_leaves_nothing_and_the_next_start_works(
    launcher: Launcher,
) -> None:
    launcher.start("postgres", "mlflow")
    assert testing.wait_for_mlflow(launcher.locations.mlflow_url(), seconds=1)
    assert any("uvicorn" in line for line in launcher.living())
    launcher.kill()
    assert wait_for(lambda: launcher.living() == []), launcher.living()
    port = launcher.locations.read_state()["mlflow_port"]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))


def test_a_killed_postgres_is_started_again_with_its_data(launcher: Launcher) -> None:
    launcher.start("postgres")
    write_and_read(launcher.locations, "a")
    postmaster = int((launcher.locations.postgres / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster_outside(launcher, postmaster), signal.SIGKILL)

    def is_back() -> bool:
        try:
            return write_and_read(launcher.locations, "b")[0] == "a"
        except psycopg.Error:
            return False

    assert wait_for(is_back)


def postmaster_outside(launcher: Launcher, pid: int) -> int:
    """The pid is the same inside and outside, since only the user has a namespace of its own; make sure."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert str(launcher.locations.postgres).encode() in command
    return pid


def test_pid_files_naming_a_stranger_are_harmless(launcher: Launcher) -> None:
    launcher.start("postgres", "valkey")
    write_and_read(launcher.locations, "a")
    launcher.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        pid_file = launcher.locations.postgres / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{launcher.locations.postgres}\n0\n5432\n")
        parts = {"postgres": {"pid": stranger.pid, "start_time": start_time(stranger.pid)}}
        launcher.locations.write_state(pid=stranger.pid, start_time=start_time(stranger.pid), parts=parts)
        launcher.start("postgres", "valkey")
        assert write_and_read(launcher.locations, "b") == ["a", "b"]
        launcher.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_what_a_killed_start_left_is_ended_and_strangers_are_not(
    tmp_path: Path,
) -> None:
    ours, other = Locations(tmp_path / "ours"), Locations(tmp_path / "other")
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = subprocess.Popen(sleeping, env=os.environ | {"LEADERSBOARD_PART": f"{ours.marker}:worker"})
    neighbour = subprocess.Popen(sleeping, env=os.environ | {"LEADERSBOARD_PART": f"{other.marker}:worker"})
    stranger = subprocess.Popen([*sleeping, str(ours.var)])
    try:
        assert wait_for(lambda: end_leftovers(ours) == 1)
        assert left.wait(5) == -signal.SIGTERM
        assert neighbour.poll() is None
        assert stranger.poll() is None
    finally:
        for process in (left, neighbour, stranger):
            process.kill()
            process.wait()


def test_a_second_start_on_the_same_folder_is_refused_by_name(
    launcher: Launcher,
) -> None:
    launcher.start("valkey")
    with pytest.raises(AlreadyRunning, match=f"process {launcher.process.pid} "):  # type: ignore[union-attr]
        Stack(launcher.locations).claim(web_port=8010)
    with redis.Redis.from_url(launcher.locations.redis_url()) as client:
        assert client.ping()


def test_programs_on_the_usual_ports_are_not_disturbed(launcher: Launcher) -> None:
    listeners = []
    for port in (5010, 5432, 6379):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
            listeners.append(listener)
        except OSError:
            listener.close()  # Somebody real is there: all the better.
    try:
        assert free_port(5010) != 5010
        launcher.start("postgres", "valkey", PGPORT="6000", PGHOST="127.0.0.1")
        assert write_and_read(launcher.locations, "a") == ["a"]
        for listener in listeners:
            with socket.create_connection(listener.getsockname(), timeout=2):
                pass
    finally:
        for listener in listeners:
            listener.close()


def test_an_ordinary_user_starts_and_stops_them(
    ordinary_user_launcher: Launcher,
) -> None:
    launcher = ordinary_user_launcher.start("postgres", "valkey")
    assert len(launcher.living()) >= 4
    launcher.kill()
    assert wait_for(lambda: launcher.living() == []), launcher.living()
    launcher.start("postgres", "valkey")
    assert launcher.stop() == 0
    assert launcher.living() == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root needs another identity for PostgreSQL")
def test_root_without_user_namespaces(launcher: Launcher) -> None:
    """The data change their owner to nobody, and back when namespaces work again."""
    launcher.start("postgres", LEADERSBOARD_NO_USER_NAMESPACE="1")
    assert write_and_read(launcher.locations, "a") == ["a"]
    assert launcher.locations.postgres.stat().st_uid == 65534
    launcher.kill()
    assert wait_for(lambda: launcher.living() == []), launcher.living()
    launcher.start("postgres")
    assert write_and_read(launcher.locations, "b") == ["a", "b"]


def test_a_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    locations = Locations(tmp_path / "var")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    locations.sockets.symlink_to(elsewhere)
    try:
        with pytest.raises(LocationError, match=str(locations.sockets)):
            locations.make()
    finally:
        locations.sockets.unlink()


def test_servers_for_a_test_session_answer_at_once_and_give_up_durability(
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    environment = testing.start_for_tests(tmp_path / "var", with_mlflow=False)
    try:
        assert time.monotonic() - began < 20
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("off",)
        with redis.Redis.from_url(environment["REDIS_URL"]) as client:
            assert client.ping()
        sockets = Locations(tmp_path / "var").sockets
        assert sockets.exists()
    finally:
        testing.stop_for_tests(tmp_path / "var")
    assert not sockets.exists()
