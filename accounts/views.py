"""Signing up, profile, password and tokens on pages. Signing in and out are Django's own views."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts import services, signing_up, throttle
from accounts.forms import PasswordForm, ProfileForm, SignUpForm, TokenForm
from accounts.hashing import hashing_slot
from accounts.refusals import InvalidInput, RequestRefused
from accounts.requests import SignedInRequest


def _form_again(request: HttpRequest, template: str, refusal: RequestRefused, context: dict[str, Any]) -> HttpResponse:
    """The form with what was typed, but for passwords, and why it was refused before it was looked at."""
    context |= {"errors": [refusal.sentence], "retry_after": refusal.retry_after}
    response = render(request, template, context, status=refusal.status)
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


class SignInView(LoginView):
    template_name = "accounts/login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs):
        is_open = settings.SIGN_UP != signing_up.CLOSED
        return super().get_context_data(**kwargs, can_sign_up=is_open)

    def post(self, request, *args, **kwargs):
        try:
            return super().post(request, *args, **kwargs)
        except RequestRefused as refusal:
            form = self.form_class(request, initial={"username": request.POST.get("username", "")})
            return _form_again(request, self.template_name, refusal, self.get_context_data(form=form))

    def form_valid(self, form):
        return throttle.keep_device(self.request, super().form_valid(form))


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@sensitive_post_parameters("password1", "password2", "invitation")
def sign_up(request: HttpRequest) -> HttpResponse:
    """Make an account and be signed in to it. Without a good invitation, where one is needed, nothing else is looked at."""
    if settings.SIGN_UP == signing_up.CLOSED:
        raise Http404
    if request.user.is_authenticated:
        return redirect("home")
    by_invitation = settings.SIGN_UP == signing_up.BY_INVITATION
    if request.method != "POST":
        form = SignUpForm(by_invitation=by_invitation, initial={"invitation": request.GET.get("invitation", "")[:100]})
        # Pages and files that this one links to must not learn the invitation. The form needs the origin, so that stays.
        response = render(request, "accounts/sign_up.html", {"form": form})
        response.headers["Referrer-Policy"] = "strict-origin"
        return response
    kept = {name: request.POST.get(name, "") for name in ("invitation", "username", "name", "email")}
    attempt = throttle.sign_up_attempt(request)
    try:
        attempt.admit()
    except RequestRefused as refusal:
        form = SignUpForm(by_invitation=by_invitation, initial=kept)
        return _form_again(request, "accounts/sign_up.html", refusal, {"form": form})
    if by_invitation and not signing_up.is_open_invitation(request.POST.get("invitation", "").strip()):
        attempt.fail()
        context = {"form": SignUpForm(by_invitation=True, initial=kept), "errors": [signing_up.bad_invitation()]}
        return render(request, "accounts/sign_up.html", context, status=400)
    form = SignUpForm(request.POST, by_invitation=by_invitation)
    if form.is_valid():
        given = form.cleaned_data
        try:
            user = signing_up.sign_up(
                username=given["username"],
                password=given["password1"],
                name=given["name"],
                email=given["email"],
                invitation=given.get("invitation", ""),
            )
        except InvalidInput as refusal:
            form.add_refusal(refusal)
        else:
            # An invitation makes one account by itself. With open sign-up, the address bounds the number.
            if by_invitation:
                attempt.succeed()
            else:
                attempt.fail()
            login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
            throttle.login_attempt(request, user.username).succeed()
            messages.success(request, _("Welcome. Your account is made, and you are signed in."))
            return throttle.keep_device(request, redirect("home"))
    attempt.fail()
    return render(request, "accounts/sign_up.html", {"form": form}, status=400)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: SignedInRequest) -> HttpResponse:
    user = request.user
    form = ProfileForm(request.POST or None, initial={"name": user.get_full_name(), "email": user.email})
    if request.method != "POST" or not form.is_valid():
        return render(request, "accounts/profile.html", {"form": form}, status=400 if form.errors else 200)
    services.change_profile(user, name=form.cleaned_data["name"], email=form.cleaned_data["email"])
    messages.success(request, _("Your profile is saved."))
    return redirect("account")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@sensitive_post_parameters()
def password(request: SignedInRequest) -> HttpResponse:
    """Change the password: this session goes on, every other one ends. Wrong old ones are counted like failed logins."""
    user = request.user
    if request.method != "POST":
        return render(request, "accounts/password.html", {"form": PasswordForm(user)})
    attempt = throttle.login_attempt(request, user.username, is_signed_in=True)
    form = PasswordForm(user, request.POST)
    try:
        attempt.check()
        with hashing_slot():
            attempt.admit()
            is_valid = form.is_valid()
            if "old_password" in form.errors:
                attempt.fail()
            else:
                attempt.succeed()
    except RequestRefused as refusal:
        form = PasswordForm(user, initial={"end_tokens": "end_tokens" in request.POST})
        return _form_again(request, "accounts/password.html", refusal, {"form": form})
    if not is_valid:
        return render(request, "accounts/password.html", {"form": form}, status=400)
    ended = services.change_password(
        user, form.cleaned_data["new_password1"], end_tokens=form.cleaned_data["end_tokens"]
    )
    update_session_auth_hash(request, user)
    told = _("Your password is changed. You stay signed in here; everywhere else you are signed out.")
    if ended:
        told += " " + ngettext("%(count)d token has ended.", "%(count)d tokens have ended.", ended) % {"count": ended}
    messages.success(request, told)
    return throttle.keep_device(request, redirect("account"))


@login_required
@require_POST
@never_cache
@sensitive_variables("secret")
def create_token(request: SignedInRequest) -> HttpResponse:
    """The secret is shown in this answer alone: a redirect would have to store it somewhere in clear."""
    form = TokenForm(request.POST)
    if not form.is_valid():
        return render(request, "accounts/token.html", {"form": form}, status=400)
    token, secret = services.create_token(request.user, name=form.cleaned_data["name"])
    return render(request, "accounts/token.html", {"token": token, "secret": secret})


@login_required
@require_POST
def revoke_token(request: SignedInRequest, token_id: int) -> HttpResponse:
    token = get_object_or_404(request.user.api_tokens, pk=token_id)
    services.revoke_token(token)
    messages.success(request, _("The token “%(name)s” is revoked.") % {"name": token.name})
    return redirect("account")
