"""Decide which requests a person may send to MLflow through the site.

MLflow knows no users. The site therefore lists the reads that MLflow's pages need: exact paths with exact parameters,
and for GraphQL the pages' own documents. It refuses everything else, and writes each request anew from the values that
it checked. People read the runs of their own jobs: every run and experiment in a request must belong to a job that they
may see. Operators may also search, and may read every run. Nothing can be changed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, QueryDict

from accounts.models import User
from accounts.permissions import sees_all_jobs
from core.untrusted import Bounds, load_json
from jobs.mlflow_names import LOG_ARTIFACT, OLD_LOG_ARTIFACT, artifact_names
from jobs.mlflow_queries import DOCUMENTS, with_typenames
from jobs.models import Job

BODY_BYTES = 256 * 1024
_BODY = Bounds(bytes=BODY_BYTES, depth=16)
MOST_DEPTH = 6  # levels of an operator's search; MLflow's pages need four
MOST_IDS = 100  # as many as MLflow's pages ask for at once
GRAPHQL = "graphql"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NUMBER = re.compile(r"-?[0-9]{1,10}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,8000}")
_STATIC_FILE = re.compile(r"static-files/[A-Za-z0-9_./-]+")


class Kind(Enum):
    RUN = "run"
    RUNS = "runs"
    EXPERIMENT = "experiment"
    ARTIFACT = "artifact"
    NUMBER = "number"
    TEXT = "text"
    TEXTS = "texts"


RUN, RUNS, EXPERIMENT, ARTIFACT, NUMBER, TEXT, TEXTS = Kind
_MANY = {RUNS, TEXTS}
_IDS = {RUN, RUNS, EXPERIMENT}
Parameters = Mapping[str, Kind]

# The application itself: the page and facts about the server, the same for everyone.
_APPLICATION = {"", "version", "ajax-api/3.0/mlflow/server-info"}
_PAGE = {"filter": TEXT, "order_by": TEXTS, "max_results": NUMBER, "page_token": TEXT}
# `run_uuid` is the older name of `run_id`. A request names its run once.
_ONE_RUN = {"run_id": RUN, "run_uuid": RUN}
_OF_OWN_RUNS: dict[str, Parameters] = {
    "runs/get": _ONE_RUN,
    "artifacts/list": {**_ONE_RUN, "path": ARTIFACT, "page_token": TEXT},
    "experiments/get": {"experiment_id": EXPERIMENT},
    "metrics/get-history": {**_ONE_RUN, "metric_key": TEXT, "max_results": NUMBER, "page_token": TEXT},
    "metrics/get-history-bulk": {"run_id": RUNS, "metric_key": TEXT, "max_results": NUMBER},
    "metrics/get-history-bulk-interval": {
        "run_ids": RUNS, "metric_key": TEXT, "start_step": NUMBER, "end_step": NUMBER, "max_results": NUMBER,
    },
}  # fmt: skip
READS: dict[str, Parameters] = {
    "get-artifact": {**_ONE_RUN, "path": ARTIFACT},
    # MLflow's pages call `ajax-api`; the links in the site's API name `api`.
    **{
        f"{api}/2.0/mlflow/{path}": parameters
        for path, parameters in _OF_OWN_RUNS.items()
        for api in ("ajax-api", "api")
    },
}
OPERATORS_READS: dict[str, Parameters] = {
    "ajax-api/2.0/mlflow/experiments/search": {**_PAGE, "view_type": TEXT},
    "ajax-api/2.0/mlflow/experiments/get-by-name": {"experiment_name": TEXT},
    "ajax-api/2.0/mlflow/registered-models/search": _PAGE,
    "ajax-api/2.0/mlflow/model-versions/search": _PAGE,
    "ajax-api/3.0/mlflow/scorers/list": {"experiment_id": EXPERIMENT},
}
# Searches are sent by POST for the length of their filters. The names in their JSON:
_SEARCH = {"experiment_ids", "filter", "order_by", "max_results", "page_token"}
OPERATORS_SEARCHES: dict[str, set[str]] = {
    "ajax-api/2.0/mlflow/runs/search": {*_SEARCH, "run_view_type"},
    "ajax-api/2.0/mlflow/experiments/search": {*_SEARCH, "view_type"},
    "ajax-api/2.0/mlflow/experiments/search-datasets": {"experiment_ids"},
    "ajax-api/2.0/mlflow/logged-models/search": {*_SEARCH, "datasets"},
    "ajax-api/3.0/mlflow/datasets/search": _SEARCH,
    "ajax-api/3.0/mlflow/traces/search": {*_SEARCH, "locations"},
    "ajax-api/3.0/mlflow/traces/metrics": {
        "experiment_ids", "view_type", "metric_name", "aggregations", "filters", "dimensions", "time_interval_seconds",
        "start_time_ms", "end_time_ms", "max_results", "page_token",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """A GraphQL query of MLflow's pages: the name of its only variable and the fields of that variable."""

    variable: str
    fields: Parameters
    for_operators: bool = False


OPERATIONS = {
    "GetRun": Operation("data", {"runId": RUN}),
    "MlflowGetExperimentQuery": Operation("input", {"experimentId": EXPERIMENT}),
    "GetMetricHistoryBulkInterval": Operation(
        "data", {"runIds": RUNS, "metricKey": TEXT, "startStep": NUMBER, "endStep": NUMBER, "maxResults": NUMBER}
    ),
    # An experiment holds the runs of everyone on a leaderboard.
    "SearchRuns": Operation("data", {"filter": TEXT, "experimentIds": TEXTS}, for_operators=True),
}
_TEXTS_SENT = {name: with_typenames(DOCUMENTS[name]) for name in OPERATIONS}


def allowed_request(user: User, request: HttpRequest, path: str) -> tuple[QueryDict, bytes | None]:
    """Return the query and the body to send to MLflow, written anew from what was checked.

    Raises:
        PermissionDenied: this person may not ask this, or no one may.
    """
    query = QueryDict(mutable=True)
    if request.method == "POST":
        if request.GET or not _is_same_origin(request):
            raise PermissionDenied
        body = _search(user, path, request) if path != GRAPHQL else _operation(user, request)
        return query, json.dumps(body).encode()
    if path in _APPLICATION or _is_static_file(path):
        return query, None
    is_operator = sees_all_jobs(user)
    parameters = READS.get(path) or (OPERATORS_READS.get(path) if is_operator else None)
    if parameters is None:
        raise PermissionDenied
    values: dict[str, Any] = {}
    for name, given in request.GET.lists():
        kind = parameters.get(name)
        if kind not in _MANY and len(given) != 1:
            raise PermissionDenied
        values[name] = given if kind in _MANY else given[0]
    _check(user, parameters, values, is_search=path in OPERATORS_READS)
    for name, value in values.items():
        query.setlist(name, value if isinstance(value, list) else [value])
    return query, None


def _is_static_file(path: str) -> bool:
    return _STATIC_FILE.fullmatch(path) is not None and not _climbs(path)


def _climbs(path: str) -> bool:
    """Tell whether a part of the path leads upwards, however often it is percent-encoded."""
    while (decoded := unquote(path)) != path:
        path = decoded
    return any(part in {"..", "."} for part in re.split(r"[/\\]", path))


def _is_same_origin(request: HttpRequest) -> bool:
    """Tell whether one of this site's pages sent the request, by the browser's word: MLflow's pages send no CSRF token."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.get_host()


def _json_body(request: HttpRequest) -> dict[str, Any]:
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        if not 0 < length <= BODY_BYTES:
            raise PermissionDenied
        body = load_json(request.body, _BODY)
    except ValueError:  # TextRefused, too
        raise PermissionDenied from None
    if not isinstance(body, dict):
        raise PermissionDenied
    return body


def _operation(user: User, request: HttpRequest) -> dict[str, Any]:
    """Return the stored query of the named operation, with the variables that came once they are checked."""
    body = _json_body(request)
    name = body.get("operationName")
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None or body.keys() - {"operationName", "variables", "query"}:
        raise PermissionDenied
    if operation.for_operators and not sees_all_jobs(user):
        raise PermissionDenied
    variables = body.get("variables")
    if not isinstance(variables, dict) or variables.keys() != {operation.variable}:
        raise PermissionDenied
    values = variables[operation.variable]
    if not isinstance(values, dict):
        raise PermissionDenied
    given = {name: value for name, value in values.items() if value is not None}
    _check(user, operation.fields, given, is_search=operation.for_operators)
    return {"operationName": name, "query": _TEXTS_SENT[str(name)], "variables": {operation.variable: given}}


def _search(user: User, path: str, request: HttpRequest) -> dict[str, Any]:
    names = OPERATORS_SEARCHES.get(path)
    if names is None or not sees_all_jobs(user):
        raise PermissionDenied
    body = _json_body(request)
    if body.keys() - names or not _is_plain(body, MOST_DEPTH):
        raise PermissionDenied
    return body


def _is_plain(value: Any, depth: int) -> bool:
    """Tell whether the JSON is flat enough and its texts have no control characters."""
    if isinstance(value, (dict, list)):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(one, depth - 1) for one in inner)
    return not isinstance(value, str) or _TEXT.fullmatch(value) is not None


def _check(user: User, parameters: Parameters, values: Mapping[str, Any], *, is_search: bool) -> None:
    """Refuse unlisted names, values of another kind, and runs or experiments that the person may not see."""
    for name, value in values.items():
        if name not in parameters or not _fits(parameters[name], value):
            raise PermissionDenied
    named = [name for name in values if parameters[name] in _IDS]
    if not is_search and len(named) != 1:
        raise PermissionDenied
    if sees_all_jobs(user):
        return
    [name] = named
    mine = Job.objects.visible_to(user)
    if parameters[name] is EXPERIMENT:
        if not mine.filter(experiment_id=values[name]).exists():
            raise PermissionDenied
        return
    runs = set(values[name]) if parameters[name] is RUNS else {values[name]}
    jobs = {job.run_id: job for job in mine.filter(run_id__in=runs).only("run_id", "artifacts", "log_name")}
    if jobs.keys() != runs:
        raise PermissionDenied
    paths = [value for name, value in values.items() if parameters[name] is ARTIFACT]
    if any(not _is_artifact_of(job, path) for job in jobs.values() for path in paths):
        raise PermissionDenied


def _is_artifact_of(job: Job, path: str) -> bool:
    """Tell whether the path is a file of the run or a folder of such files; the empty one is the topmost folder.

    Runs of earlier versions have the log at the top, and every file under its own name.
    """
    if not path:
        return True
    names = artifact_names(item["path"] for item in job.artifacts)
    logs = [LOG_ARTIFACT, OLD_LOG_ARTIFACT] if job.log_name else []
    files: Iterable[str] = [*names, *names.values(), *logs]
    return any(file == path or file.startswith(f"{path}/") for file in files)


def _fits(kind: Kind, value: Any) -> bool:
    if kind in _MANY:
        pattern = _ID if kind is RUNS else _TEXT
        return (
            isinstance(value, list)
            and 0 < len(value) <= MOST_IDS
            and all(isinstance(one, str) and pattern.fullmatch(one) for one in value)
        )
    if kind is NUMBER:
        return type(value) in (int, str) and _NUMBER.fullmatch(str(value)) is not None
    if not isinstance(value, str):
        return False
    if kind is ARTIFACT:
        return _TEXT.fullmatch(value) is not None and not _climbs(value)
    return (_ID if kind in _IDS else _TEXT).fullmatch(value) is not None
