"""Tokens on pages. Signing in and out are Django's own views."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from accounts import services
from accounts.forms import TokenForm


@login_required
@require_POST
@never_cache
@sensitive_variables("secret")
def create_token(request: HttpRequest) -> HttpResponse:
    """The secret is shown in this answer alone: a redirect would have to store it somewhere in clear."""
    form = TokenForm(request.POST)
    if not form.is_valid():
        return render(request, "accounts/token.html", {"form": form}, status=400)
    token, secret = services.create_token(request.user, name=form.cleaned_data["name"])
    return render(request, "accounts/token.html", {"token": token, "secret": secret})


@login_required
@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    token = get_object_or_404(request.user.api_tokens, pk=token_id)
    services.revoke_token(token)
    messages.success(request, _("The token “%(name)s” is revoked.") % {"name": token.name})
    return redirect("account")
