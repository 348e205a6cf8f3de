"""The requests that the site passes on to MLflow, and their text. No MLflow is asked."""

import json
import re
from pathlib import Path

import pytest
from django.core.exceptions import PermissionDenied
from django.http import QueryDict
from django.test import RequestFactory

from accounts.tests.factories import UserFactory
from jobs.mlflow_access import OPERATIONS, allowed_request
from jobs.mlflow_queries import DOCUMENTS, with_typenames
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboard_site.embedded import environments

MINE, OTHER, SECOND = "a" * 32, "b" * 32, "c" * 32
API = "ajax-api/2.0/mlflow"
NUL = "\0"


@pytest.fixture
def mine(db):
    """Make my job and a second one; another person has one in another experiment."""
    job = JobFactory(
        status="completed",
        run_id=MINE,
        experiment_id="1",
        artifacts=[{"path": "plots/roc.png", "name": "x", "size": 1}],
    )
    Job.objects.filter(pk=job.pk).update(log_name="x/log.txt")
    JobFactory(status="completed", user=job.user, run_id=SECOND, experiment_id="1")
    JobFactory(status="completed", user=UserFactory(), run_id=OTHER, experiment_id="2")
    return job


@pytest.fixture
def operator(db):
    return UserFactory(is_staff=True, is_superuser=True)


def get(user, path, query=""):
    request = RequestFactory().get("/x")
    request.GET = QueryDict(query)
    return allowed_request(user, request, path)[0]


def post(user, path, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = RequestFactory().post("/x", raw, content_type="application/json")
    return json.loads(allowed_request(user, request, path)[1])


def refused(ask, *arguments):
    with pytest.raises(PermissionDenied):
        ask(*arguments)
    return True


def graphql(name="GetRun", variable="data", **fields):
    return {"operationName": name, "query": DOCUMENTS.get(name, ""), "variables": {variable: fields}}


def test_mlflow_gets_the_stored_query_and_the_checked_variables_alone(mine):
    body = graphql(runId=MINE)
    body["query"] = 'query GetRun { mlflowGetRun(input: {runId: "OTHER"}) { run { info { runId } } } }'.replace(
        "OTHER", OTHER
    )
    assert post(mine.user, "graphql", body) == {
        "operationName": "GetRun",
        "query": with_typenames(DOCUMENTS["GetRun"]),
        "variables": {"data": {"runId": MINE}},
    }


@pytest.mark.parametrize(
    "body",
    [
        graphql("MlflowGetExperimentQuery", "input", experimentId="1"),
        graphql("GetMetricHistoryBulkInterval", runIds=[MINE, SECOND], metricKey="loss", startStep=0, maxResults=320),
    ],
    ids=["experiment", "metrics"],
)
def test_the_other_operations_of_a_runs_page(mine, body):
    assert post(mine.user, "graphql", body)["variables"] == body["variables"]


@pytest.mark.parametrize(
    "body",
    [
        graphql(runId=OTHER),
        graphql(runId=[MINE, OTHER]),
        graphql(runId=None),
        graphql(runId=MINE.upper()),
        graphql(runId=f"{MINE}{NUL}"),
        graphql(runId=MINE, runUuid=OTHER),
        graphql(runId=MINE, metricKey=OTHER),
        graphql(runId={"runId": MINE}),
        graphql(path=OTHER),
        graphql(page_token=OTHER),
        graphql(),
        graphql(variable="input", runId=MINE),
        {**graphql(runId=MINE), "variables": {"data": {"runId": MINE}, "path": OTHER}},
        {**graphql(runId=MINE), "variables": [{"data": {"runId": MINE}}]},
        {**graphql(runId=MINE), "variables": None},
        {**graphql(runId=MINE), "extensions": {"persistedQuery": {}}},
        {**graphql(runId=MINE), "operationName": None},
        {**graphql(runId=MINE), "operationName": ["GetRun"]},
        {**graphql(runId=MINE), "operationName": "getrun"},
        {**graphql(runId=MINE), "operationName": "MlflowGetExperimentQuery"},
        [graphql(runId=MINE), graphql(runId=OTHER)],
        graphql("MlflowGetExperimentQuery", "input", experimentId="2"),
        graphql("MlflowGetExperimentQuery", "input", experimentId=1),
        graphql("SearchRuns", experimentIds=["1"]),
        graphql("GetMetricHistoryBulkInterval", runIds=[MINE, OTHER], metricKey="loss"),
        graphql("GetMetricHistoryBulkInterval", runIds=MINE, metricKey="loss"),
        graphql("GetMetricHistoryBulkInterval", runIds=[], metricKey="loss"),
        graphql("GetMetricHistoryBulkInterval", runIds=[MINE] * 101, metricKey="loss"),
        graphql("GetMetricHistoryBulkInterval", runIds=[MINE], metricKey=["loss"]),
        graphql("GetMetricHistoryBulkInterval", runIds=[MINE], metricKey="loss", maxResults="many"),
        graphql("GetMetricHistoryBulkInterval", runIds=[MINE], metricKey="loss", maxResults=True),
    ],
    ids=lambda body: json.dumps(body).replace(MINE, "MINE").replace(OTHER, "OTHER")[-100:],
)
def test_a_query_names_own_runs_in_the_variables_of_its_page(mine, body):
    assert refused(post, mine.user, "graphql", body)


def test_a_foreign_id_under_a_harmless_name_opens_nothing(mine):
    """Another variable carries the id, and the query uses that one, which got past an earlier check."""
    text = (
        "query GetRun($path: String, $data: MlflowGetRunInput!) "
        "{ mlflowGetRun(input: {runId: $path}) { run { data { params { key value } } } } }"
    )
    body = {"operationName": "GetRun", "query": text, "variables": {"path": OTHER, "data": {"runId": MINE}}}
    assert refused(post, mine.user, "graphql", body)


@pytest.mark.parametrize("addition", ["operationName=GetRun", "query=%7Btest%7D", "run_id=" + MINE])
def test_a_post_has_no_parameters_in_its_address(mine, addition):
    request = RequestFactory().post(f"/x?{addition}", json.dumps(graphql(runId=MINE)), content_type="application/json")
    assert refused(allowed_request, mine.user, request, "graphql")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"{API}/runs/get", f"run_id={MINE}"),
        ("api/2.0/mlflow/runs/get", f"run_id={MINE}"),
        (f"{API}/artifacts/list", f"run_uuid={MINE}"),
        (f"{API}/artifacts/list", f"run_uuid={MINE}&path=plots"),
        ("get-artifact", f"path=plots%2Froc.png&run_uuid={MINE}"),
        ("get-artifact", f"path=log.txt&run_uuid={MINE}"),
        ("get-artifact", f"path=leadersboard/log.txt&run_uuid={MINE}"),
        (f"{API}/experiments/get", "experiment_id=1"),
        (f"{API}/metrics/get-history", f"run_id={MINE}&metric_key=image+auroc"),
        (f"{API}/metrics/get-history-bulk", f"run_id={MINE}&run_id={SECOND}&metric_key=x"),
        (f"{API}/metrics/get-history-bulk-interval", f"run_ids={MINE}&run_ids={SECOND}&metric_key=x&max_results=320"),
    ],
)
def test_what_a_runs_page_reads_is_written_anew(mine, path, query):
    assert get(mine.user, path, query) == QueryDict(query)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"{API}/runs/get", ""),
        (f"{API}/runs/get", f"run_id={OTHER}"),
        (f"{API}/runs/get", f"run_id={MINE}&run_id={OTHER}"),
        (f"{API}/runs/get", f"run_id={MINE}&run_id={MINE}"),
        (f"{API}/runs/get", f"run_id={MINE}&run_uuid={OTHER}"),
        (f"{API}/runs/get", f"run_id={MINE}&runId={OTHER}"),
        (f"{API}/runs/get", f"runId={MINE}"),
        (f"{API}/runs/get", f"RUN_ID={MINE}"),
        (f"{API}/runs/get", f"run_id={MINE}%00"),
        (f"{API}/runs/get", "run_id=%ED%A0%80"),
        (f"{API}/runs/get", f"run_id={MINE}&metric_key={OTHER}"),
        (f"{API}/runs/get/", f"run_id={MINE}"),
        (f"{API}/runs//get", f"run_id={MINE}"),
        (f"{API}/Runs/Get", f"run_id={MINE}"),
        (f"{API}/runs%2Fget", f"run_id={MINE}"),
        (f"{API}/runs/get{NUL}", f"run_id={MINE}"),
        (f"{API}/runs/get\n", f"run_id={MINE}"),
        (f"{API}/runs/search", f"run_id={MINE}"),
        ("ajax-api/3.0/mlflow/runs/get", f"run_id={MINE}"),
        (f"{API}/experiments/get", "experiment_id=2"),
        (f"{API}/experiments/get", "experiment_id=1&experiment_id=2"),
        (f"{API}/experiments/get-by-name", "experiment_name=x"),
        (f"{API}/experiments/search", "max_results=5"),
        (f"{API}/metrics/get-history-bulk", f"run_id={MINE}&run_id={OTHER}&metric_key=x"),
        (f"{API}/metrics/get-history-bulk-interval", f"run_ids={MINE}&run_ids={OTHER}&metric_key=x"),
        (f"{API}/metrics/get-history-bulk-interval", f"run_ids={MINE},{OTHER}&metric_key=x"),
        (f"{API}/metrics/get-history-bulk-interval", f"run_id={MINE}&run_ids={OTHER}&metric_key=x"),
        ("get-artifact", f"path=plots/roc.png&run_uuid={OTHER}"),
        ("get-artifact", f"path=../../{OTHER}/artifacts/log.txt&run_uuid={MINE}"),
        ("get-artifact", f"path=%252e%252e%252f{OTHER}&run_uuid={MINE}"),
        ("get-artifact", f"path=not-of-this-run.txt&run_uuid={MINE}"),
        ("get-artifact", f"path=/etc/passwd&run_uuid={MINE}"),
        ("get-artifact", f"path=file:///etc/passwd&run_uuid={MINE}"),
        ("get-artifact", f"path=log.txt%23/../../x&run_uuid={MINE}"),
        ("get-artifact", f"path=log.txt%00&run_uuid={MINE}"),
        ("get-artifact", f"path=log.txt&run_uuid={MINE}&run_id={OTHER}"),
        ("get-artifact", f"path=log.txt&path=x&run_uuid={MINE}"),
        ("graphql", f"query=%7Btest%7D&run_id={MINE}"),
        ("static-files/../graphql", ""),
        ("static-files/%2e%2e/graphql", ""),
        (f"static-files/{NUL}", ""),
    ],
)  # fmt: skip
def test_no_other_read_is_handed_on(mine, path, query):
    assert refused(get, mine.user, path, query)


def test_an_operator_reads_runs_that_are_no_jobs(operator):
    assert get(operator, f"{API}/runs/get", f"run_id={OTHER}") == QueryDict(f"run_id={OTHER}")
    assert post(operator, "graphql", graphql("SearchRuns", experimentIds=["1", "2"], filter="metrics.x > 0"))
    assert get(operator, f"{API}/experiments/search", "max_results=5&order_by=name")
    search = {"experiment_ids": ["1"], "filter": "", "order_by": ["attributes.start_time DESC"], "max_results": 50}
    assert post(operator, f"{API}/runs/search", search) == search
    traces = {"locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "1"}}]}
    assert post(operator, "ajax-api/3.0/mlflow/traces/search", traces) == traces


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"{API}/gateway-proxy", "gateway_path=x"),
        ("ajax-api/3.0/mlflow/assistant/config", ""),
        ("ajax-api/3.0/mlflow/jobs/1", ""),
        (f"{API}/users/current", ""),
        (f"{API}/experiments/search", "max_results=5&surprise=1"),
        ("get-artifact", f"path=%252e%252e/x&run_uuid={MINE}"),
        ("get-artifact", f"path=x%00&run_uuid={MINE}"),
        ("get-trace-artifact", "request_id=x"),
    ],
)
def test_an_operator_reads_what_is_listed_alone(operator, path, query):
    assert refused(get, operator, path, query)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs/search", {"experiment_ids": ["1"], "surprise": 1}),
        ("runs/search", {"filter": f"x{NUL}"}),
        ("runs/search", {"filter": {NUL: 1}}),
        ("runs/search", b'{"filter": ' + b"[" * 500 + b"]" * 500 + b"}"),
        ("runs/search", b'{"filter": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ("runs/search", b'{"max_results": ' + b"9" * 5000 + b"}"),
        ("runs/search", b"\xff"),
        ("runs/create", {"experiment_id": "1"}),
        ("runs/get", {"run_id": MINE}),
    ],
    ids=["name", "nul", "nul-name", "deep", "deeper", "digits", "bytes", "write", "read"],
)  # fmt: skip
def test_a_search_is_flat_and_made_of_known_names(operator, path, body):
    assert refused(post, operator, f"{API}/{path}", body)


def test_a_participant_cannot_search(mine):
    assert refused(post, mine.user, f"{API}/runs/search", {"experiment_ids": ["1"]})


def words(document):
    return re.findall(r"\w+|[^\w\s]", document.replace("__typename", " "))


def test_the_stored_queries_are_those_of_the_installed_mlflow():
    """Fails when a new version of MLflow asks for something else: look at its queries, then store them."""
    [scripts] = environments.folder("mlflow").glob("lib/python3*/site-packages/mlflow/server/js/build/static/js")
    sent = {}
    for script in scripts.glob("*.js"):
        text = script.read_text(encoding="utf-8", errors="replace")
        for document in re.findall(r"`((?:\\n|\s)*(?:query|mutation|subscription|fragment)\s[^`]*)`", text):
            document = document.replace("\\n", "\n")
            sent[re.search(r"\w+\s+(\w+)", document)[1]] = words(document)
        # However a script writes its documents, each operation declares a variable of one of MLflow's types.
        for name in re.findall(r"(?:query|mutation|subscription)\s+(\w+)\s*\(\s*\$", text):
            sent.setdefault(name, "written in another way")
    assert sent == {name: words(document) for name, document in DOCUMENTS.items()}
    assert DOCUMENTS.keys() == OPERATIONS.keys()


def test_every_listed_read_is_one_of_the_installed_mlflow():
    """Finds listed paths that MLflow no longer has."""
    from jobs.mlflow_access import OPERATORS_READS, OPERATORS_SEARCHES, READS

    [server] = environments.folder("mlflow").glob("lib/python3*/site-packages/mlflow")
    source = "".join(path.read_text(errors="replace") for path in [*Path(server, "protos").glob("*_pb2.py"), server / "server/__init__.py"])  # fmt: skip
    for path in [*READS, *OPERATORS_READS, *OPERATORS_SEARCHES]:
        assert path.partition("mlflow/")[2] in source, path
