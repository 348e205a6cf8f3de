"""What gunicorn reads by itself when it is started in this folder: one count for all web processes, and logs as settings say.

The command line wins over what stands here.
"""

import os
import shutil
import tempfile
from pathlib import Path

from environs import Env

# Set by whoever starts us, the folder is theirs and only emptied; else it is ours and goes with us.
_IS_OURS = "PROMETHEUS_MULTIPROC_DIR" not in os.environ
if _IS_OURS:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="leadersboard-metrics-")
_FOLDER = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
_FOLDER.mkdir(parents=True, exist_ok=True)
for _old in _FOLDER.glob("*.db"):
    _old.unlink()  # of processes before our start: a restart counts from 0, as Prometheus expects

_env = Env()
_env.read_env(str(Path(__file__).with_name(".env")), recurse=False)
if _env.str("LOG_FORMAT", "text") == "json":
    logconfig_dict = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {"()": "accounts.log_formats.JsonFormatter"},
            "access": {"()": "accounts.log_formats.JsonAccessFormatter"},
        },
        "handlers": {
            "error": {"class": "logging.StreamHandler", "formatter": "json"},
            "access": {"class": "logging.StreamHandler", "formatter": "access", "stream": "ext://sys.stdout"},
        },
        "root": {"handlers": ["error"], "level": "INFO"},
        "loggers": {
            "gunicorn.error": {"handlers": ["error"], "level": "INFO", "propagate": False},
            "gunicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        },
    }
else:
    access_log_format = '%(h)s %(t)s "%(r)s" %(s)s %(b)s %(L)s s request_id=%({x-request-id}o)s "%(a)s"'


def child_exit(server, worker):
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


def on_exit(server):
    if _IS_OURS:
        shutil.rmtree(_FOLDER, ignore_errors=True)
