"""MLflow behind the site's login, against a real MLflow."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.conf import settings
from django.test import Client

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs import tracking
from jobs.mlflow_queries import DOCUMENTS
from jobs.models import Job, TrackingOutbox
from jobs.tests.factories import JobFactory

API = "/mlflow/ajax-api/2.0/mlflow"
GET_RUN = (
    'query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.ExperimentRunTracking") '
    "{ mlflowGetRun(input: $data) { run { info { runId } } } }"
)
WRITES = [
    "runs/create", "runs/delete", "runs/update", "runs/log-metric", "runs/set-tag", "experiments/create", "experiments/delete",
    "registered-models/create", "gateway-proxy",
]  # fmt: skip


@pytest.fixture
def published(mlflow_url, db):
    """Two people's completed jobs, both in MLflow."""
    jobs = [JobFactory(status="completed", user=UserFactory(), params={"secret": f"of-{n}"}) for n in (1, 2)]
    TrackingOutbox.objects.bulk_create(TrackingOutbox(job=job) for job in jobs)
    assert tracking.publish_due() == (2, 0)
    return list(Job.objects.order_by("created_at"))


@pytest.fixture
def refused(db):
    """As if they were in MLflow, for what never gets there."""
    return [JobFactory(status="completed", user=UserFactory(), run_id=name * 32, experiment_id="1") for name in "ab"]


class ReadingClient(Client):
    """Reads every answer to its end, as a web server does: an answer keeps one of few places until then."""

    def request(self, **request):
        response = super().request(**request)
        response.body = b"".join(response.streaming_content) if response.streaming else response.content
        return response


def as_user(user):
    client = ReadingClient()
    client.force_login(user)
    return client


def graphql(client, run_id, query=GET_RUN, **headers):
    body = {"operationName": "GetRun", "query": query, "variables": {"data": {"runId": run_id}}}
    return client.post("/mlflow/graphql", json.dumps(body), content_type="application/json", headers=headers)


@pytest.mark.usefixtures("mlflow_url")
def test_the_page_is_for_who_is_signed_in(db):
    assert Client().get("/mlflow/app").url == "/login/?next=/mlflow/app"
    response = as_user(UserFactory()).get("/mlflow/app")
    assert response.status_code == 200
    assert b"<title>MLflow</title>" in response.body
    assert "script-src http://testserver/mlflow/static-files/" in response.headers["Content-Security-Policy"]


def test_a_person_opens_their_own_run_and_no_other(published):
    mine, other = published
    client = as_user(mine.user)
    answer = client.get(f"{API}/runs/get", {"run_id": mine.run_id})
    assert json.loads(answer.body)["run"]["info"]["run_id"] == mine.run_id
    assert (
        json.loads(graphql(client, mine.run_id).body)["data"]["mlflowGetRun"]["run"]["info"]["runUuid"] == mine.run_id
    )
    assert client.get(f"{API}/artifacts/list", {"run_uuid": mine.run_id}).status_code == 200
    assert client.get(f"{API}/runs/get", {"run_id": other.run_id}).status_code == 403
    assert client.get(f"{API}/runs/get", {"run_id": [mine.run_id, other.run_id]}).status_code == 403
    assert client.get(f"{API}/runs/get", {"run_id": ""}).status_code == 403
    assert client.get(f"{API}/experiments/get", {"experiment_id": other.experiment_id}).status_code == 403
    assert client.get(f"{API}/artifacts/list", {"run_uuid": other.run_id}).status_code == 403
    assert graphql(client, other.run_id).status_code == 403


def test_an_operator_reads_all(published):
    client = as_user(UserFactory(is_staff=True, is_superuser=True))
    for job in published:
        assert client.get(f"{API}/runs/get", {"run_id": job.run_id}).status_code == 200
    search = {"experiment_ids": [job.experiment_id for job in published]}
    answer = client.post(f"{API}/runs/search", json.dumps(search), content_type="application/json")
    assert {run["info"]["run_id"] for run in json.loads(answer.body)["runs"]} == {job.run_id for job in published}


def test_staff_who_may_not_see_jobs_read_none(refused):
    client = as_user(UserFactory(is_staff=True))
    assert client.get(f"{API}/runs/get", {"run_id": refused[0].run_id}).status_code == 403


def test_a_token_reads_as_its_owner(published):
    mine, other = published
    client = ReadingClient(headers={"Authorization": f"Bearer {create_token(mine.user, name='t')[1]}"})
    assert client.get(f"{API}/runs/get", {"run_id": mine.run_id}).status_code == 200
    assert client.get(f"{API}/runs/get", {"run_id": other.run_id}).status_code == 403
    assert Client(headers={"Authorization": "Bearer wrong"}).get("/mlflow/app").status_code == 403


def test_mlflow_understands_every_stored_query(published):
    job = published[0]
    variables = {
        "GetRun": {"data": {"runId": job.run_id}},
        "MlflowGetExperimentQuery": {"input": {"experimentId": job.experiment_id}},
        "GetMetricHistoryBulkInterval": {"data": {"runIds": [job.run_id], "metricKey": "x", "startStep": None, "maxResults": 9}},
        "SearchRuns": {"data": {"filter": "", "experimentIds": [job.experiment_id]}},
    }  # fmt: skip
    assert variables.keys() == DOCUMENTS.keys()
    client = as_user(UserFactory(is_staff=True, is_superuser=True))
    for name, given in variables.items():
        body = {"operationName": name, "query": DOCUMENTS[name], "variables": given}
        answer = json.loads(client.post("/mlflow/graphql", json.dumps(body), content_type="application/json").body)
        [data] = answer["data"].values()
        assert (answer["errors"], data["apiError"]) == (None, None), name


INNER = "{ run { info { runId } data { params { key value } } } }"


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ('query GetRun { mlflowGetRun(input: {runId: "OTHER"}) INNER }', {}),
        ("query GetRun($path: String) { mlflowGetRun(input: {runId: $path}) INNER }", {"path": "OTHER"}),
        ("query GetRun($page_token: String) { a: mlflowGetRun(input: {runId: $page_token}) INNER }", {"page_token": "OTHER"}),
        ("query GetRun($path: MlflowGetRunInput!) { mlflowGetRun(input: $path) INNER }", {"path": {"metricKey": "OTHER"}}),
        ('query GetRun($data: MlflowGetRunInput = {runId: "OTHER"}) { mlflowGetRun(input: $data) INNER }', None),
        ("query GetRun($path: String) { ...F } fragment F on Query { mlflowGetRun(input: {runId: $path}) INNER }", {"path": "OTHER"}),
        ('query Other { mlflowGetRun(input: {runId: """OTHER"""}) INNER }', {}),
    ],
    ids=["literal", "harmless-name", "alias", "input-object", "default", "fragment", "name-mismatch"],
)  # fmt: skip
def test_no_query_smuggles_another_run_in(published, query, variables):
    """Try with and without one's own run in its proper place, and another person's run in every other place."""
    mine, other = published
    client = as_user(mine.user)
    for own in ({"data": {"runId": mine.run_id}}, {}):
        body = {
            "operationName": "GetRun",
            "query": query.replace("INNER", INNER),
            "variables": {**(variables or {}), **own},
        }
        sent = json.dumps(body).replace("OTHER", other.run_id)
        response = client.post("/mlflow/graphql", sent, content_type="application/json")
        assert response.status_code in (200, 403)
        assert b"of-2" not in response.body and other.run_id.encode() not in response.body


@pytest.mark.parametrize("name", ["SearchRuns", "GetRun"])
def test_an_experiment_of_ones_own_opens_no_search_through_it(published, name):
    """An experiment holds the runs of everyone on a leaderboard; GraphQL makes a list of one id by itself."""
    mine, other = published
    # As two people on one leaderboard have it.
    Job.objects.filter(pk=mine.pk).update(experiment_id=other.experiment_id)
    query = (
        "query X($experimentId: [String]) { mlflowSearchRuns(input: {experimentIds: $experimentId}) { __typename } }"
    )
    for variables in ({"experimentId": other.experiment_id}, {"data": {"experimentIds": [other.experiment_id]}}):
        body = {"operationName": name, "query": query, "variables": variables}
        response = as_user(mine.user).post("/mlflow/graphql", json.dumps(body), content_type="application/json")
        assert response.status_code == 403


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("is_staff", [False, True], ids=["person", "operator"])
def test_nobody_writes(refused, path, is_staff):
    user = UserFactory(is_staff=True, is_superuser=True) if is_staff else refused[0].user
    body = {"run_id": refused[0].run_id, "run_uuid": refused[0].run_id, "key": "a", "value": "b", "name": "n"}
    response = as_user(user).post(f"{API}/{path}", json.dumps(body), content_type="application/json")
    assert response.status_code == 403
    for verb in ("PUT", "PATCH", "DELETE"):
        assert as_user(user).generic(verb, f"{API}/runs/get").status_code == 405


@pytest.mark.parametrize(
    "path", ["../api/2.0/mlflow/runs/search", "static-files/../../etc/passwd", "nothing/of/mlflow", "static-files/a?b"]
)
def test_no_other_address_is_handed_on(db, path):
    quoted = path.replace("?", "%3F").replace("..", "%2E%2E")
    assert as_user(UserFactory(is_staff=True, is_superuser=True)).get(f"/mlflow/{quoted}").status_code == 403


def test_bytes_that_no_database_takes_are_refused(db):
    """NUL is refused for every address of the site (test_storable.py), half a character here."""
    for user in (UserFactory(), UserFactory(is_staff=True, is_superuser=True)):
        assert as_user(user).get(f"{API}/runs/get?run_id=%00").status_code == 400
        assert as_user(user).get(f"{API}/runs/get?run_id=%ED%A0%80").status_code == 403


def test_artifacts_are_inert(published):
    mine, _ = published
    client = as_user(mine.user)
    climbing = client.get("/mlflow/get-artifact", {"run_uuid": mine.run_id, "path": "../../x"})
    assert climbing.status_code == 403
    Job.objects.filter(pk=mine.pk).update(log_name="a/log.txt")
    answer = client.get("/mlflow/get-artifact", {"run_uuid": mine.run_id, "path": "log.txt"})
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://testserver"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
    ids=["cross-site", "same-site", "origin", "own-origin", "same-origin"],
)
def test_another_site_cannot_ask(published, headers, status):
    mine, _ = published
    assert graphql(as_user(mine.user), mine.run_id, **headers).status_code == status


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"x" * 300_000, b"[" * 100_000], ids=["0", "cut", "list", "long", "deep"]
)
def test_a_body_that_is_none(db, mlflow_url, body):
    client = as_user(UserFactory(is_staff=True, is_superuser=True))
    assert client.post(f"{API}/runs/search", body, content_type="application/json").status_code == 403


def test_mlflow_away_is_told(db, settings):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.MLFLOW_TRACKING_URI = f"http://127.0.0.1:{unused.getsockname()[1]}"
        response = as_user(UserFactory()).get("/mlflow/app")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    assert "MLflow" in response.text


class Recorder(BaseHTTPRequestHandler):
    seen: list[dict[str, str]] = []

    def do_GET(self):
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:1/secret")
        self.send_header("Set-Cookie", "sessionid=stolen")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def test_cookies_and_tokens_stay_here(db, settings):
    """Neither way; and a redirection is not followed."""
    server = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.MLFLOW_TRACKING_URI = f"http://name:word@127.0.0.1:{server.server_port}"
    try:
        client = as_user(UserFactory())
        response = client.get("/mlflow/app", headers={"Origin": "http://testserver"})
        assert response.status_code == 302
        assert "Location" not in response.headers
        assert "stolen" not in str(response.cookies)
    finally:
        server.shutdown()
        server.server_close()
    seen = Recorder.seen[-1]
    assert seen["authorization"].startswith("Basic ")
    assert not {"cookie", "origin", "referer"} & seen.keys()


def test_links_go_through_the_site():
    assert f"{settings.SITE_URL}/mlflow" == settings.MLFLOW_PUBLIC_URL
