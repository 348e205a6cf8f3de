"""/api/auth"""

from django.contrib.auth import authenticate
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.requests import SignedInApiRequest
from accounts.schema import refusals
from accounts.serializers import LoginAnswer, LoginRequest
from accounts.services import create_token, revoke_token


class LoginView(APIView):
    authentication_classes: list[type] = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        return "Bearer"  # without one, DRF turns the 401 of a view that takes no token into a 403

    @extend_schema(
        request=LoginRequest,
        responses={200: LoginAnswer, **refusals(400, 401, 403, 413, 415, 429, 503)},
        operation_id="login",
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """A token for a username and a password."""
        sent = LoginRequest(data=request.data)
        sent.is_valid(raise_exception=True)
        user = authenticate(request._request, **sent.validated_data)
        if not isinstance(user, User):
            raise AuthenticationFailed(_("The username or the password is wrong."))
        token, secret = create_token(user, name="login")
        return Response({"token": secret, "user_id": user.username, "expires_at": token.expires_at})


class LogoutView(APIView):
    @extend_schema(request=None, responses={204: None, **refusals(401, 503)}, operation_id="logout")
    def post(self, request: SignedInApiRequest) -> Response:
        """End the token that this call carries."""
        revoke_token(request.auth)
        return Response(status=204)
