"""How people get an account by themselves: openly, or with an invitation, as SIGN_UP says."""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from accounts.models import Invitation, User, new_invitation_secret, token_digest
from accounts.names import TAKEN, check_display_name, check_username
from accounts.refusals import Conflict, InvalidInput

CLOSED, BY_INVITATION, OPEN = "closed", "invitation", "open"


def refuse_while_closed() -> None:
    """Raise Conflict while SIGN_UP is `closed`: an invitation could not be used."""
    if settings.SIGN_UP == CLOSED:
        sentence = _("SIGN_UP is `closed`, so an invitation would not work. Set it to `invitation` first.")
        raise Conflict("sign_up_closed", sentence)


def create_invitation(*, by: User | None, note: str = "", lifetime: timedelta | None = None) -> tuple[Invitation, str]:
    """A new invitation for one person and its secret, which exists nowhere else and cannot be shown again."""
    secret = new_invitation_secret()
    expires_at = timezone.now() + (lifetime or timedelta(days=settings.INVITATION_DAYS))
    invitation = Invitation.objects.create(digest=token_digest(secret), note=note, created_by=by, expires_at=expires_at)
    return invitation, secret


def invitation_link(secret: str) -> str:
    return f"{settings.SITE_URL.rstrip('/')}/sign-up/?invitation={secret}"


def is_open_invitation(secret: str) -> bool:
    return Invitation.objects.open().filter(digest=token_digest(secret)).exists()


def withdraw_invitation(invitation: Invitation) -> bool:
    """End an invitation that nobody has used; whether there was something to end."""
    return bool(Invitation.objects.open().filter(pk=invitation.pk).update(expires_at=Now()))


@sensitive_variables("password", "invitation")
def sign_up(*, username: str, password: str, name: str = "", email: str = "", invitation: str = "") -> User:
    """A new account; the password was validated by the form. With SIGN_UP=invitation it uses the invitation up.

    Raises InvalidInput: for the invitation before all else, so that nobody learns which names are taken without one.
    """
    if settings.SIGN_UP == CLOSED:
        raise InvalidInput("sign_up_closed", _("Accounts are made by the operators here."))
    hashed = make_password(password)  # slow on purpose, so before anything is locked
    with transaction.atomic():
        used = None
        if settings.SIGN_UP == BY_INVITATION:
            used = Invitation.objects.open().select_for_update().filter(digest=token_digest(invitation)).first()
            if used is None:
                raise InvalidInput("bad_invitation", bad_invitation(), field="invitation")
        check_username(username)
        if User.objects.resembling(username).exists():
            raise InvalidInput("taken_username", TAKEN, field="username")
        fields = {"password": hashed, "first_name": check_display_name(name), "email": email}
        try:
            with transaction.atomic():
                user = User.objects.create(username=username, **fields)
        except IntegrityError as error:  # another person chose a name like it in this moment
            raise InvalidInput("taken_username", TAKEN, field="username") from error
        if used is not None:
            Invitation.objects.filter(pk=used.pk).update(used_at=Now(), used_by=user)
    return user


def bad_invitation() -> object:
    return _("The invitation is unknown, used or expired. Ask the operators for another.")
