"""MLflow behind the site's own login: what lies below `/mlflow/` hands reads on to the MLflow server, for who may make them.

MLflow's pages ask for everything by addresses relative to their own, so a prefix is all that they need. `/mlflow/` itself
is a page of the site (jobs/pages/work.py): MLflow's first page would list everybody's runs. MLflow's is `/mlflow/app`.
"""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods
from rest_framework.exceptions import AuthenticationFailed

from accounts.authentication import BearerTokenAuthentication
from accounts.models import User
from accounts.refusals import Unavailable
from jobs import mlflow_credentials
from jobs.mlflow_access import allowed_request
from jobs.mlflow_places import Places

if TYPE_CHECKING:  # 20 ms and 3 MB that only who opens MLflow's pages needs
    import urllib3

AT_ONCE = 4  # a slow MLflow must not hold every thread of the web server
EACH = 2  # nor one slow person every place
SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 2, 30
CHUNK = 64 * 1024
ASKED = ("Accept", "If-None-Match", "If-Modified-Since")
ANSWERED = (
    "Content-Type", "Content-Length", "Content-Encoding", "Content-Disposition", "ETag", "Last-Modified", "Cache-Control",
)  # fmt: skip
# Artifacts are strangers' files on the site's own address: opened by themselves, they may run and load nothing.
ARTIFACT_POLICY = "default-src 'none'; sandbox; frame-ancestors 'self'"
_places = Places(AT_ONCE, EACH)


@csrf_exempt  # its pages have no token of ours; mlflow_access checks where a POST comes from, and nothing is changed
@require_http_methods(["GET", "HEAD", "POST"])
def mlflow(request: HttpRequest, path: str) -> HttpResponse | StreamingHttpResponse:
    """One request to MLflow, as the signed-in person or by a token."""
    user = _asker(request)
    if user is None:
        return redirect_to_login(request.get_full_path())
    query, body = allowed_request(user, request, path)
    _places.take(user.pk, SECONDS_TO_CONNECT)
    try:
        answer = _ask(request, path, query.urlencode(), body)
    except BaseException:
        _places.give_back(user.pk)
        raise
    content = _Content(answer, user.pk)
    response = StreamingHttpResponse(content, status=answer.status)
    for name in ANSWERED:
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    is_artifact = path == "get-artifact"
    response.headers["Content-Security-Policy"] = ARTIFACT_POLICY if is_artifact else pages_policy(request)
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    if not path.startswith("static-files/"):
        response.headers["Cache-Control"] = "private, no-cache"
    return response


def pages_policy(request: HttpRequest) -> str:
    """MLflow's pages need inline styles and `eval`; so they reach nothing on this site but MLflow's own addresses."""
    here = f"{request.scheme}://{request.get_host()}/mlflow/"
    return (
        f"default-src 'none'; script-src {here}static-files/ 'unsafe-eval'; style-src {here}static-files/ 'unsafe-inline'; "
        f"connect-src {here}; img-src {here} data: blob:; font-src {here} data:; frame-src {here} blob:; "
        f"worker-src {here} blob:; manifest-src {here}; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
    )


def _asker(request: HttpRequest) -> User | None:
    if request.headers.get("Authorization"):
        try:
            found = BearerTokenAuthentication().authenticate(request)
        except AuthenticationFailed:
            raise PermissionDenied from None
        return found[0] if found else None
    return request.user if request.user.is_authenticated else None


class _Content:
    """The answer's bytes as they come, still encoded; gives the person's place back when it is closed, read or not."""

    def __init__(self, answer: "urllib3.BaseHTTPResponse", person: int) -> None:
        self.answer = answer
        self.person = person
        self.is_open = True
        self.is_read = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.answer.stream(CHUNK, decode_content=False)
        self.is_read = True

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            if self.is_read:
                self.answer.release_conn()
            else:
                self.answer.close()  # with its connection: nobody waits for the rest
            _places.give_back(self.person)


@cache
def _pool() -> "urllib3.PoolManager":
    import urllib3

    timeout = urllib3.Timeout(connect=SECONDS_TO_CONNECT, read=SECONDS_TO_ANSWER)
    return urllib3.PoolManager(maxsize=AT_ONCE, timeout=timeout, retries=False)


def _ask(request: HttpRequest, path: str, query: str, body: bytes | None) -> "urllib3.BaseHTTPResponse":
    import urllib3

    # Cookies and tokens of ours stay here, and so does Origin: to MLflow, the site is the one who asks.
    headers = {name: request.headers[name] for name in ASKED if name in request.headers}
    headers["Accept-Encoding"] = request.headers.get("Accept-Encoding", "identity")
    if body is not None:
        headers["Content-Type"] = "application/json"
    headers |= mlflow_credentials.authorization()
    url = f"{mlflow_credentials.url()}/{path}{'?' if query else ''}{query}"
    try:
        return _pool().request(
            request.method or "GET", url, body=body, headers=headers, redirect=False, preload_content=False
        )
    except urllib3.exceptions.HTTPError:
        message = _("MLflow is not reachable just now. Results are kept and appear there when it is back.")
        raise Unavailable("mlflow_away", message, retry_after=10) from None
