"""`Authorization: Bearer <token>` for the API."""

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from accounts.models import ApiToken, User, token_digest


class BearerTokenAuthentication(BaseAuthentication):
    def authenticate(self, request: HttpRequest) -> tuple[User, ApiToken] | None:
        # WSGI hands headers over as latin-1, so any bytes arrive as a string and can be hashed.
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _space, secret = header.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise AuthenticationFailed(_("The Authorization header must be `Bearer <token>`."))
        token = ApiToken.objects.active().select_related("user").filter(digest=token_digest(secret.strip())).first()
        if token is None:
            raise AuthenticationFailed(
                _("The token is unknown, expired or revoked. Get a new one by POST /api/auth/login.")
            )
        return token.user, token

    def authenticate_header(self, request: HttpRequest) -> str:
        return "Bearer"


class BearerTokenScheme(OpenApiAuthenticationExtension):
    target_class = BearerTokenAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema):
        return {"type": "http", "scheme": "bearer"}
