"""Who may ask MLflow what, through the site.

Nobody may change anything. Operators may read all of it. A person may open the runs of their own jobs: every
run or experiment that a request names must be of a job that is visible to them, and a request that names none (a search,
a list) is refused. MLflow itself knows no users.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, QueryDict

from accounts.models import User
from accounts.permissions import sees_all_jobs
from jobs.models import Job

BODY_BYTES = 256 * 1024
GRAPHQL = "graphql"
_API = r"(?:ajax-)?api/[23]\.0/mlflow"
# The application itself: the page, its scripts and styles, what kind of server it is. Nothing of anybody's.
_APPLICATION = re.compile(rf"|static-files/[\w./-]+|version|{_API}/server-info")
_READS = re.compile(rf"get-artifact|{_API}/(?!gateway)[a-z0-9/_-]+")
# MLflow's searches are reads, sent by POST for the length of their filters.
_READS_BY_POST = re.compile(
    rf"{_API}/[a-z0-9/-]+/(?:search|search-datasets|metrics|get-history-bulk-interval)|{GRAPHQL}"
)
_READS_OF_ONE_RUN = re.compile(
    rf"get-artifact|{_API}/(?:runs/get|artifacts/list|experiments/get|metrics/get-history(?:-bulk(?:-interval)?)?)"
)
_RUNS = {"run_id", "run_uuid", "run_ids", "runId", "runUuid", "runIds"}
_EXPERIMENTS = {"experiment_id", "experimentId"}
_HARMLESS = {
    "path", "metric_key", "metricKey", "page_token", "pageToken", "max_results", "maxResults", "start_step", "end_step",
    "startStep", "endStep", "view_type",
}  # fmt: skip
# What Apollo adds to every query of MLflow's pages. No other string may stand in a query: what it asks for must come
# in its variables, where it can be read.
_COMPONENT = re.compile(r'@component\(name: "[A-Za-z.]+"\)')
# What a query may ask MLflow for. Searches take an experiment's id, and an experiment holds everybody's runs.
_GRAPHQL_FIELD = re.compile(r"\bmlflow\w*")
_GRAPHQL_FIELDS_OF_ONE_RUN = {
    "mlflowGetRun", "mlflowGetExperiment", "mlflowListArtifacts", "mlflowGetMetricHistoryBulkInterval",
}  # fmt: skip


def allowed_request(user: User, request: HttpRequest, path: str) -> tuple[QueryDict, bytes | None]:
    """The query and body to hand on, written anew from what was checked.

    Raises:
        PermissionDenied: this person may not ask this, or nobody may.
    """
    if any(part in {"..", "."} for value in [path, *request.GET.getlist("path")] for part in re.split(r"[/\\]", value)):
        raise PermissionDenied
    body = None
    if request.method == "POST":
        if not _READS_BY_POST.fullmatch(path) or not _same_origin(request):
            raise PermissionDenied
        body = _json_body(request)
    elif not (_APPLICATION.fullmatch(path) or _READS.fullmatch(path)):
        raise PermissionDenied
    if not _APPLICATION.fullmatch(path) and not sees_all_jobs(user):
        _check_own(user, path, request.GET, body)
    return request.GET, None if body is None else json.dumps(body).encode()


def _same_origin(request: HttpRequest) -> bool:
    """MLflow's pages send no CSRF token of ours; the browser's own word stands in, and nothing here changes anything."""
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
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        raise PermissionDenied from None
    if not isinstance(body, dict):
        raise PermissionDenied
    return body


def _check_own(user: User, path: str, query: QueryDict, body: dict[str, Any] | None) -> None:
    named = list(_named(dict(query.lists())))
    if path == GRAPHQL and body is not None:
        text = body.get("query")
        if not isinstance(text, str) or '"' in _COMPONENT.sub("", text) or not isinstance(body.get("variables"), dict):
            raise PermissionDenied
        if body.keys() - {"operationName", "query", "variables"}:
            raise PermissionDenied
        if set(_GRAPHQL_FIELD.findall(text)) - _GRAPHQL_FIELDS_OF_ONE_RUN:
            raise PermissionDenied
        named += _named(body["variables"])
    elif body is not None or not _READS_OF_ONE_RUN.fullmatch(path):
        raise PermissionDenied
    runs = {value for key, value in named if key in _RUNS}
    experiments = {value for key, value in named if key in _EXPERIMENTS}
    mine = Job.objects.visible_to(user)
    if not runs | experiments or any(key not in _RUNS | _EXPERIMENTS | _HARMLESS for key, _ in named):
        raise PermissionDenied
    if runs and mine.filter(run_id__in=runs).exclude(run_id="").values("run_id").distinct().count() != len(runs):
        raise PermissionDenied
    for experiment in experiments:
        if not experiment or not mine.filter(experiment_id=experiment).exists():
            raise PermissionDenied


def _named(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf below with the name that it stands under."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _named(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key)
    else:
        yield key, str(value)
