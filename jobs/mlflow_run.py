"""Fill a job's run in MLflow: params, metrics and files. The same again changes nothing.

One thing that MLflow does not take must not keep the rest away: each is found by itself and reported as left out. A
failure counts as the thing's own only while MLflow takes something else of the same kind.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.files.storage import storages
from django.utils import timezone

from jobs import mlflow_credentials
from jobs.detail_metrics import published_categories
from jobs.execution.told import Told as _
from jobs.execution.told import kept
from jobs.mlflow_errors import in_words, is_away, is_refused
from jobs.mlflow_names import LOG_ARTIFACT, artifact_names, flatten, named
from jobs.models import Job
from jobs.queries import progress_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

JOB_TAG = "leadersboard.job_id"
LEFT_OUT_TAG = "leadersboard.left_out"
RENAMED_TAG = "leadersboard.renamed"
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 5000
MAX_NAME_LENGTH = 150
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 500
HEALTH_SECONDS = 5
# Before the names of what a run says of itself, where a scorer's numbers are the result.
SELF_REPORTED = "self_reported/"
# Before those of categories, where the leaderboard publishes them.
CATEGORIES = "categories/"
NOTED = 20
_NOTES = {
    "artifact": _("The file %(name)s is not in MLflow: %(why)s.", name="", why=""),
    "param": _("The parameter %(name)s is not in MLflow: %(why)s.", name="", why=""),
    "metric": _("The metric %(name)s is not in MLflow: %(why)s.", name="", why=""),
}
_MORE = _("%(count)d more things are not in MLflow.", count=0)


@dataclass(frozen=True)
class Untaken:
    """One thing of a job that MLflow does not take."""

    kind: str
    name: str
    why: _

    @property
    def shown(self) -> str:
        """The name, cut to its end: tags and notes have limits, and a path may be thousands of characters long."""
        return self.name if len(self.name) <= MAX_NAME_LENGTH else f"…{self.name[-MAX_NAME_LENGTH:]}"

    def __str__(self) -> str:
        return f"{self.kind} {self.shown}: {self.why}"


def with_notes(notes: Sequence[dict[str, Any]], left_out: Sequence[Untaken]) -> list[dict[str, Any]]:
    """Return the job's notes with what MLflow lacks now, in place of what it lacked before."""
    ours = {sentence.kept["text"] for sentence in (*_NOTES.values(), _MORE)}
    others = [note for note in notes if note.get("text") not in ours]
    told = [_(_NOTES[one.kind].kept["text"], name=one.shown, why=one.why) for one in left_out[:NOTED]]
    if len(left_out) > NOTED:
        told.append(_(_MORE.kept["text"], count=len(left_out) - NOTED))
    return [*others, *map(kept, told)]


class RunFiller:
    """Send what a job left to its run, and remember in `left_out` what MLflow does not take."""

    def __init__(self, client: "MlflowClient", run: "Run", job: Job, *, gives_up_files: bool) -> None:
        self.client, self.run, self.job = client, run, job
        self.gives_up_files = gives_up_files
        self.left_out: list[Untaken] = []
        self._renamed: list[str] = []
        self._lost_log = False

    def send(self) -> None:
        """Send params, metrics and files.

        Raises what went wrong where MLflow or the storage is to blame, and not one thing of this job.
        """
        from mlflow.entities import Param

        params = [Param(name, value[:MAX_PARAM_LENGTH]) for name, value in flatten(self.job.params)]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._log("param", params[start : start + PARAMS_AT_ONCE])
        metrics = _metrics(self.job)
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._log("metric", metrics[start : start + METRICS_AT_ONCE])
        self._send_log()
        self._send_artifacts()

    def finish(self) -> None:
        """Name the run and what of it is missing or has another name, and end it."""
        self.rename()
        self._tag(LEFT_OUT_TAG, [str(one) for one in self.left_out])
        self._tag(RENAMED_TAG, self._renamed)
        self.client.set_terminated(self._run_id, status="FINISHED", end_time=milliseconds(self.job.finished_at))

    def rename(self) -> None:
        """Give the run the name that its submission has now."""
        if self.run.info.run_name != run_name(self.job):
            self.client.update_run(self._run_id, name=run_name(self.job))

    @property
    def _run_id(self) -> str:
        return str(self.run.info.run_id)

    def _log(self, kind: str, items: list[Any]) -> None:
        """Send params or metrics at once; when that fails, in halves, until those that MLflow does not take are alone."""
        params, metrics = (items, []) if kind == "param" else ([], items)
        error = _attempt(partial(self.client.log_batch, self._run_id, metrics=metrics, params=params))
        if error is None:
            return
        if is_away(error) or self._touch() is not None:
            raise error
        if len(items) > 1:
            middle = len(items) // 2
            self._log(kind, items[:middle])
            self._log(kind, items[middle:])
        elif not any((one.kind, one.name) == (kind, items[0].key) for one in self.left_out):
            self.left_out.append(Untaken(kind, items[0].key, in_words(error)))

    def _send_log(self) -> None:
        """Send the log before the files: while MLflow and the storage have it, a failure is the file's own."""
        if not self.job.log_name:
            return
        error = self._upload(LOG_ARTIFACT, self.job.log_name)
        if isinstance(error, FileNotFoundError):
            self._lost_log = True
            self.left_out.append(Untaken("artifact", LOG_ARTIFACT, in_words(error)))
        elif error is not None:
            raise error

    def _send_artifacts(self) -> None:
        stored = {item["path"]: item["name"] for item in self.job.artifacts}
        for path, place in artifact_names(stored).items():
            error = self._upload(place, stored[path])
            if error is not None:
                if not self._is_its_own(error):
                    raise error
                self.left_out.append(Untaken("artifact", path, in_words(error)))
            elif place != path:
                self._renamed.append(f"{place} is {path}")

    def _is_its_own(self, error: BaseException) -> bool:
        """Tell whether the failure is this file's and not MLflow's or the storage's."""
        if is_refused(error):
            return True
        if isinstance(error, FileNotFoundError):
            return not self._lost_log or self.gives_up_files
        has_log = self.job.log_name and not self._lost_log
        return (self._upload(LOG_ARTIFACT, self.job.log_name) if has_log else self._touch()) is None

    def _touch(self) -> Exception | None:
        """Try whether MLflow takes anything for this run."""
        return _attempt(partial(self.client.set_tag, self._run_id, JOB_TAG, str(self.job.pk)))

    def _upload(self, place: str, name: str) -> Exception | None:
        """Copy one stored file to the run; return what went wrong."""
        return _attempt(partial(self._copy, place, name))

    def _copy(self, place: str, name: str) -> None:
        folder, _slash, own_name = place.rpartition("/")
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary, own_name)
            with storages["artifacts"].open(name) as stored, copy.open("wb") as target:
                for chunk in stored.chunks():
                    target.write(chunk)
            self.client.log_artifact(self._run_id, str(copy), folder or None)

    def _tag(self, name: str, lines: list[str]) -> None:
        if lines:
            more = [f"and {len(lines) - NOTED} more"] if len(lines) > NOTED else []
            self.client.set_tag(self._run_id, name, "; ".join([*lines[:NOTED], *more])[:MAX_TAG_LENGTH])
        elif name in self.run.data.tags:
            self.client.delete_tag(self._run_id, name)


def run_name(job: Job) -> str:
    """Return what the run is called: as its submission is, else by its person and the beginning of the job's id."""
    return job.submission.name or f"{job.user.username} {str(job.pk)[:8]}"


def is_up() -> bool:
    """Tell whether MLflow's server answers."""
    import requests

    try:
        return requests.get(f"{mlflow_credentials.url()}/health", timeout=HEALTH_SECONDS).status_code == 200
    except requests.RequestException:
        return False


def failures() -> tuple[type[Exception], ...]:
    """Return what sending something to MLflow may raise."""
    from mlflow.exceptions import MlflowException

    # Those of `requests` are OSError; the client itself raises the last three for values that do not fit.
    return MlflowException, OSError, ValueError, OverflowError, TypeError


def _attempt(act: Callable[[], Any]) -> Exception | None:
    """Do it and return what went wrong, so that the next request's error does not carry this one along.

    After a status of 500 MLflow's server closes the connection, which the next request then finds broken. So a request that
    got no answer is sent once more if the server is up.
    """
    error = _once(act)
    return _once(act) if error is not None and is_away(error) and is_up() else error


def _once(act: Callable[[], Any]) -> Exception | None:
    try:
        act()
    except failures() as error:
        return error
    return None


def _metrics(job: Job) -> list[Any]:
    """Return the results, and every point of the curves, as MLflow's metrics."""
    from mlflow.entities import Metric

    begun, ended = milliseconds(job.started_at), milliseconds(job.finished_at)
    progress = progress_of(job)
    curves = [(_curve_name(job, curve["name"]), curve["points"]) for curve in (progress.curves if progress else [])]
    results = dict(_results(job))
    given = dict.fromkeys([*results, *(name for name, _points in curves)])
    names = {value: name for name, value in named((name, name) for name in given)}
    # A metric that is a curve too ends the curve with its result: MLflow shows the value of the last step.
    last_steps = {name: points[-1][0] for name, points in curves}
    metrics = [Metric(names[name], value, ended, int(last_steps.get(name, 0))) for name, value in results.items()]
    return metrics + [
        Metric(names[name], value, min(begun + int(seconds * 1000), ended), int(step))
        for name, points in curves
        for step, value, seconds in points
    ]


def _results(job: Job) -> Iterator[tuple[str, float]]:
    """Yield the numbers that participants may see."""
    yield from job.metrics.items()
    for name, value in job.self_reported.items():
        yield f"{SELF_REPORTED}{name}", value
    for category, values in (published_categories(job) or {}).items():
        for name, value in values.items():
            yield f"{CATEGORIES}{category}/{name}", value


def _curve_name(job: Job, name: str) -> str:
    """Keep a run's own curve apart from a scorer's metric of the same name: it is not that metric's history."""
    return f"{SELF_REPORTED}{name}" if job.scorer and name in job.metrics else name


def milliseconds(moment: datetime | None) -> int:
    return int((moment or timezone.now()).timestamp() * 1000)
