"""Types of requests from people who have signed in. Annotations only: Django and DRF make the objects."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails
from rest_framework.request import Request

from accounts.models import ApiToken, User


class SignedInRequest(HttpRequest):
    """A request for a page behind `login_required` or the console's gate."""

    user: User
    htmx: HtmxDetails


class SignedInApiRequest(Request):
    """An API call that authentication has accepted."""

    user: User
    auth: ApiToken
