"""Tokens: made for a person, kept as a digest, over when they should be; and the command that prints one."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import ApiToken, token_digest
from accounts.services import create_token, revoke_token
from accounts.tests.factories import ApiTokenFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_the_secret_is_nowhere_in_the_database():
    token, secret = create_token(UserFactory(), name="laptop")
    token.refresh_from_db()
    assert (secret[:3], len(secret), token.digest) == ("lb_", 46, token_digest(secret))
    assert secret not in str(ApiToken.objects.values().get())


def test_active_tokens_are_neither_expired_nor_revoked():
    now, hour = timezone.now(), timedelta(hours=1)
    for name, expires_at, revoked_at in (
        ("a", None, None),
        ("b", now + hour, None),
        ("c", now - hour, None),
        ("d", None, now),
    ):
        ApiTokenFactory(name=name, expires_at=expires_at, revoked_at=revoked_at)
    assert sorted(ApiToken.objects.active().values_list("name", flat=True)) == ["a", "b"]


def test_revoking_twice_keeps_the_first_time():
    token = ApiTokenFactory()
    revoke_token(token)
    first = ApiToken.objects.get().revoked_at
    revoke_token(token)
    assert ApiToken.objects.get().revoked_at == first is not None


def test_the_command_prints_a_working_token_and_nothing_else():
    out = StringIO()
    call_command("create_token", UserFactory().username, "--days", "1", stdout=out)
    token = ApiToken.objects.get()
    assert (token.digest, token.name) == (token_digest(out.getvalue().strip()), "command line")
    assert out.getvalue().count("\n") == 1
    assert timedelta(hours=23) < token.expires_at - timezone.now() <= timedelta(days=1)


@pytest.mark.parametrize("arguments", [["nobody"], ["gone"], ["there", "--days", "0"]])
def test_the_command_refuses_who_is_not_there_and_what_is_over_at_once(arguments):
    UserFactory(username="gone", is_active=False)
    UserFactory(username="there")
    with pytest.raises(CommandError):
        call_command("create_token", *arguments)
    assert ApiToken.objects.count() == 0


def test_the_command_tells_it_as_json():
    out = StringIO()
    call_command("create_token", UserFactory(username="ada").username, "--name", "n", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert ApiToken.objects.get().digest == token_digest(told.pop("token"))
    assert (told["user"], told["name"], set(told)) == ("ada", "n", {"user", "name", "expires_at"})


@pytest.mark.django_db
@pytest.mark.parametrize("days", ["0", "3651", "9999999"])
def test_create_token_refuses_a_time_that_it_cannot_keep(days):
    with pytest.raises(CommandError, match="--days: 1 to 3650"):
        call_command("create_token", UserFactory().username, "--days", days)
    assert not ApiToken.objects.exists()
