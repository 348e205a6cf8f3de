"""For gunicorn's configuration: one count of requests for all web processes, and logs as LOG_FORMAT says.

`from leaderboard_site.gunicorn_hooks import *` in a gunicorn.conf.py is all that it needs; the one in the repository's
root does, and gunicorn reads that by itself when it is started there.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from environs import Env

from leaderboard_site.metrics.sharing import FOLDER, add_to_the_dead

__all__ = ["access_log_format", "child_exit", "keepalive", "logconfig_dict", "logger_class", "on_exit", "worker_class"]
logger_class = "leaderboard_site.access_log.MaskingLogger"
# gthread that answers the commonest calls by a short way; `--worker-class gthread` is the same without it.
worker_class = "leaderboard_site.lane.worker.LaneWorker"
keepalive = 30  # a connection that waits costs no thread
_DEFAULT_ACCESS = '%(h)s %(t)s "%(r)s" %(s)s %(b)s %(L)s s request_id=%({x-request-id}o)s "%(a)s"'


def _prepare() -> bool:
    """Choose and empty the folder before the first process counts; whether it is ours to remove."""
    is_ours = FOLDER not in os.environ
    if is_ours:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="leadersboard-metrics-")
    folder = Path(os.environ[FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.db"):
        old.unlink()  # a restart counts from 0, as Prometheus expects
    return is_ours


def _settings() -> tuple[dict[str, Any], str]:
    env = Env()
    env.read_env(str(Path(__file__).resolve().parent.parent / ".env"), recurse=False)
    if env.str("LOG_FORMAT", "text") != "json":
        return {}, _DEFAULT_ACCESS
    handlers = {
        "error": {"class": "logging.StreamHandler", "formatter": "json"},
        "access": {"class": "logging.StreamHandler", "formatter": "access", "stream": "ext://sys.stdout"},
    }
    formatters = {
        "json": {"()": "accounts.log_formats.JsonFormatter"},
        "access": {"()": "accounts.log_formats.JsonAccessFormatter"},
    }
    loggers = {
        f"gunicorn.{name}": {"handlers": [name], "level": "INFO", "propagate": False} for name in ("error", "access")
    }
    root = {"handlers": ["error"], "level": "INFO"}
    return {
        "version": 1, "disable_existing_loggers": False, "formatters": formatters, "handlers": handlers, "root": root,
        "loggers": loggers,
    }, _DEFAULT_ACCESS  # fmt: skip


_IS_OURS = _prepare()
logconfig_dict, access_log_format = _settings()


def child_exit(server: Any, worker: Any) -> None:
    add_to_the_dead(worker.pid)


def on_exit(server: Any) -> None:
    if _IS_OURS:
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
