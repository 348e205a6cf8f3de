"""Making an account by oneself: who may, which names, and what it tells to those who have no invitation."""

import threading
from datetime import timedelta
from importlib import import_module

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from accounts.models import Invitation, User, token_digest
from accounts.names import USERNAME_SHAPE, name_shape
from accounts.refusals import InvalidInput
from accounts.signing_up import create_invitation, sign_up, withdraw_invitation
from accounts.tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
GOOD = "a long and unusual one"


def form(**changed):
    return {
        "username": "hanako", "name": "山田 花子", "email": "h@example.com", "password1": GOOD, "password2": GOOD, **changed,
    }  # fmt: skip


@pytest.fixture
def opened(settings):
    settings.SIGN_UP = "open"


@pytest.fixture
def invited(settings):
    settings.SIGN_UP = "invitation"
    return create_invitation(by=None, note="Hanako")[1]


def test_closed_there_is_no_such_page_and_no_link_to_it(client):
    assert client.get("/sign-up/").status_code == client.post("/sign-up/", form()).status_code == 404
    assert "/sign-up/" not in client.get("/login/").content.decode()
    with pytest.raises(InvalidInput, match="made by the operators"):
        sign_up(username="hanako", password=GOOD)


def test_open_anybody_gets_an_account_and_is_signed_in(client, opened):
    assert "/sign-up/" in client.get("/login/").content.decode()
    assert "invitation" not in client.get("/sign-up/").context["form"].fields
    assert client.post("/sign-up/", form())["Location"] == "/"
    user = User.objects.get()
    assert (user.username, user.get_full_name(), user.email) == ("hanako", "山田 花子", "h@example.com")
    assert user.password.startswith("argon2") and not user.is_staff
    assert client.get("/account/").status_code == 200
    assert client.get("/sign-up/")["Location"] == "/"


def test_an_invitation_makes_one_account(client, invited):
    page = client.get(f"/sign-up/?invitation={invited}")
    assert invited in page.content.decode() and "no-store" in page["Cache-Control"]
    assert client.post("/sign-up/", form(invitation=invited)).status_code == 302
    used = Invitation.objects.get()
    assert (used.used_by.username, used.used_at is not None) == ("hanako", True)
    again = Client().post("/sign-up/", form(invitation=invited, username="taro"))
    assert again.status_code == 400 and "unknown, used or expired" in again.content.decode()
    assert User.objects.count() == 1
    assert invited not in str(Invitation.objects.values_list())


def test_an_invitation_from_before_the_prefix_still_makes_an_account(client, settings):
    settings.SIGN_UP = "invitation"
    old = "Zr4k" * 8
    invitation, _ = create_invitation(by=None)
    Invitation.objects.filter(pk=invitation.pk).update(digest=token_digest(old))
    assert client.post("/sign-up/", form(invitation=old)).status_code == 302


def test_guessing_invitations_is_slowed_down_and_a_crowd_with_good_ones_is_not(settings):
    settings.SIGN_UP = "invitation"
    for number in range(22):
        sent = form(username=f"person-{number}", email="", invitation=create_invitation(by=None)[1])
        assert Client().post("/sign-up/", sent).status_code == 302
    guess = form(username="guesser", invitation="lbi_guess")
    assert [Client().post("/sign-up/", guess).status_code for _ in range(21)] == [400] * 20 + [429]
    assert Client().post("/sign-up/", guess, REMOTE_ADDR="192.0.2.1").status_code == 400


@pytest.mark.parametrize("secret", ["", "nonsense"])
def test_without_an_invitation_nobody_learns_which_names_are_taken(client, settings, secret):
    settings.SIGN_UP = "invitation"
    UserFactory(username="hanako")
    told = client.post("/sign-up/", form(invitation=secret)).content.decode()
    assert told.count('role="alert"') == 1 and "unknown, used or expired" in told
    assert "taken" not in told and GOOD not in told


def test_an_invitation_ends_when_it_expires_or_is_withdrawn(client, settings):
    settings.SIGN_UP = "invitation"
    _, late = create_invitation(by=None, lifetime=timedelta(seconds=-1))
    invitation, taken_back = create_invitation(by=None)
    assert withdraw_invitation(invitation) and not withdraw_invitation(invitation)
    for secret in (late, taken_back):
        assert client.post("/sign-up/", form(invitation=secret)).status_code == 400
    assert User.objects.count() == 0


def test_a_refused_form_uses_no_invitation_up(client, invited):
    assert client.post("/sign-up/", form(invitation=invited, password1="short", password2="short")).status_code == 400
    assert client.post("/sign-up/", form(invitation=invited)).status_code == 302


@pytest.mark.parametrize(
    ("username", "told"),
    [
        ("ab", "3 to 30 characters"),
        ("a" * 31, "3 to 30 characters"),
        ("hаnako", "Only the letters"),  # a Cyrillic а
        ("花子花子", "Only the letters"),
        ("ha nako", "Only the letters"),
        ("_hanako", "Only the letters"),
        ("ha__nako", "Only the letters"),
        ("hanako.", "Only the letters"),
        ("ha/nako", "Only the letters"),
        ("admin", "reserved"),
        ("Adm1n", "reserved"),
        ("r00t", "reserved"),
        ("base-line", "reserved"),
        ("HANAKO", "looks like it"),
        ("han.ako", "looks like it"),
        ("ada1ovelace", "looks like it"),
        ("adaIovelace", "looks like it"),
        ("mo0ri", "looks like it"),
    ],
)
def test_names_that_nobody_may_choose(client, opened, username, told):
    for taken in ("Hanako", "adalovelace", "moori"):
        UserFactory(username=taken)
    response = client.post("/sign-up/", form(username=username))
    assert response.status_code == 400
    assert told in response.content.decode()
    assert response.context["form"]["name"].value() == "山田 花子"
    assert User.objects.count() == 3


@pytest.mark.parametrize("name", ["a\u202eb", "a\u200bb", "a\x07b"])
def test_display_names_hold_nothing_that_cannot_be_seen(client, opened, name):
    response = client.post("/sign-up/", form(name=name))
    assert response.status_code == 400 and list(response.context["form"].errors) == ["name"]


@pytest.mark.parametrize("password", ["short", "password123", "hanako12345", "1234567890"])
def test_weak_passwords_are_refused(client, opened, password):
    response = client.post("/sign-up/", form(password1=password, password2=password))
    assert response.status_code == 400 and User.objects.count() == 0


def test_the_shape_of_a_name_is_the_same_in_sql():
    for name in ["Hanako", "r00t", "rnoori", "vvilliam", "I1l.O0_o-", "山田", "MÖwe"]:
        UserFactory(username=name)
    shapes = User.objects.annotate(shape=USERNAME_SHAPE).values_list("username", "shape")
    assert dict(shapes) == {name: name_shape(name) for name, _ in shapes}


def test_the_admin_refuses_a_name_that_looks_like_another(admin_client):
    UserFactory(username="hanako")
    sent = {"username": "Hana.ko", "usable_password": "true", "password1": GOOD, "password2": GOOD}
    response = admin_client.post("/admin/accounts/user/add/", sent)
    assert response.context["errors"] == [["This name, or one that looks like it, is taken."]]


def test_createsuperuser_refuses_a_name_that_looks_like_another():
    UserFactory(username="hanako")
    with pytest.raises(CommandError, match="one that looks like it, is taken"):
        call_command("createsuperuser", "--noinput", "--username", "Hana.ko", "--email", "h@example.org")


def test_the_database_refuses_a_name_that_looks_like_another():
    UserFactory(username="hanako")
    with pytest.raises(IntegrityError, match="user_name_looks_alone"), transaction.atomic():
        UserFactory(username="Hana.ko")


def test_names_that_looked_alike_before_the_upgrade_stay_until_they_are_changed(opened):
    [constraint] = [one for one in User._meta.constraints if one.name == "user_name_looks_alone"]
    with connection.schema_editor() as editor:
        editor.remove_constraint(User, constraint)
    first, second, third = (UserFactory(username=name) for name in ("hanako", "Hana.ko", "hanak0"))
    with connection.cursor() as cursor:
        cursor.execute(import_module("accounts.migrations.0008_names_look_alone").KEEP_LATER_NAMES)
    with connection.schema_editor() as editor:
        editor.add_constraint(User, constraint)
    kept = User.objects.order_by("pk").values_list("kept_username", flat=True)
    assert list(kept) == ["", "Hana.ko", "hanak0"]
    for person in (first, second):
        person.refresh_from_db()
        person.full_clean()
        person.save()
    first.delete()
    third.refresh_from_db()
    third.username = "HANAKO"
    with pytest.raises(ValidationError, match="looks like it"):
        third.full_clean()
    with pytest.raises(InvalidInput):
        sign_up(username="ha-nako", password=GOOD)


def test_an_address_that_tries_too_often_waits(client, opened):
    for _ in range(19):
        client.post("/sign-up/", form(username="x"))
    assert client.post("/sign-up/", form(username="x"), REMOTE_ADDR="10.9.8.7").status_code == 400
    client.post("/sign-up/", form(username="x"))
    response = client.post("/sign-up/", form(email="hanako@example.org"))
    assert (response.status_code, User.objects.count()) == (429, 0)
    kept = {name: response.context["form"][name].value() for name in ("username", "email", "password1")}
    assert kept == {"username": form()["username"], "email": "hanako@example.org", "password1": None}
    assert int(response["Retry-After"]) > 0 and "Too many tries to sign up" in response.content.decode()
    assert client.post("/login/", {"username": "x", "password": "y"}).status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mode", ["open", "invitation"])
def test_of_two_at_once_one_gets_it(settings, mode):
    """The same invitation for two names, or two names that look alike."""
    settings.SIGN_UP = mode
    secret = create_invitation(by=None)[1] if mode == "invitation" else ""
    names = ["hanako", "taro-san"] if mode == "invitation" else ["hanako", "Hana.ko"]
    start, outcomes = threading.Barrier(2), []

    def go(name):
        start.wait()
        try:
            outcomes.append(sign_up(username=name, password=GOOD, invitation=secret).username)
        except InvalidInput as refusal:
            outcomes.append(refusal.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=go, args=[name]) for name in names]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert User.objects.count() == 1
    assert set(outcomes) - set(names) == {"bad_invitation" if mode == "invitation" else "taken_username"}


def test_the_command_prints_links_that_work(client, settings, capsys):
    settings.SIGN_UP = "invitation"
    call_command("invite", "--count", "2", "--note", "workshop")
    links = capsys.readouterr().out.split()
    assert len(links) == 2 and all(link.startswith(f"{settings.SITE_URL}/sign-up/?invitation=") for link in links)
    secret = links[0].partition("=")[2]
    assert client.post("/sign-up/", form(invitation=secret)).status_code == 302
    for wrong in (["--days", "0"], ["--count", "0"], ["--note", "x" * 201]):
        with pytest.raises(CommandError):
            call_command("invite", *wrong)
    settings.SIGN_UP = "closed"
    with pytest.raises(CommandError, match="closed"):
        call_command("invite")


def test_operators_make_and_withdraw_invitations(client, settings):
    settings.SIGN_UP = "invitation"
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    address = reverse("admin:accounts_invitation_changelist")
    page = client.post(reverse("admin:accounts_invitation_add"), {"note": "Taro"}, follow=True).content.decode()
    secret = page.partition("/sign-up/?invitation=")[2][:32]
    assert Client().get(f"/sign-up/?invitation={secret}").status_code == 200
    assert secret not in client.get(address).content.decode()
    made = Invitation.objects.get()
    assert (made.note, made.created_by.is_staff) == ("Taro", True)
    client.post(address, {"action": "withdraw", "_selected_action": [made.pk]})
    assert not Invitation.objects.open().exists()
    assert Client().post("/sign-up/", form(invitation=secret)).status_code == 400


def test_the_profile_can_be_edited(client):
    user = UserFactory(first_name="Ada", last_name="L.")
    client.force_login(user)
    assert client.get("/account/profile/").context["form"]["name"].value() == "Ada L."
    assert (
        client.post("/account/profile/", {"name": " 山田  花子 ", "email": "h@example.com"})["Location"] == "/account/"
    )
    user.refresh_from_db()
    assert (user.get_full_name(), user.email) == ("山田 花子", "h@example.com")
    response = client.post("/account/profile/", {"name": "x", "email": "nonsense"})
    assert (
        response.status_code == 400 and 'aria-describedby="id_email_error id_email_help"' in response.content.decode()
    )


@pytest.mark.parametrize("end_tokens", [False, True])
def test_a_new_password_ends_other_sessions_and_tokens_if_asked(client, end_tokens):
    user = UserFactory()
    other = Client()
    for one in (client, other):
        assert one.login(username=user.username, password=PASSWORD)
    secret = client.post("/account/tokens/", {"name": "laptop"}).context["secret"]
    data = {"old_password": PASSWORD, "new_password1": GOOD, "new_password2": GOOD}
    page = client.post("/account/password/", data | ({"end_tokens": "on"} if end_tokens else {}), follow=True)
    assert page.status_code == 200 and ("1 token has ended" in page.content.decode()) == end_tokens
    assert client.get("/account/").status_code == 200
    assert other.get("/account/").status_code == 302
    assert Client().get("/api/jobs", headers={"Authorization": f"Bearer {secret}"}).status_code == (
        401 if end_tokens else 200
    )
    user.refresh_from_db()
    assert user.check_password(GOOD) and user.password.startswith("argon2")


def test_guessing_the_old_password_is_throttled(client):
    user = UserFactory()
    client.force_login(user)
    data = {"old_password": "wrong", "new_password1": GOOD, "new_password2": GOOD}
    answers = [client.post("/account/password/", data | {"end_tokens": "on"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [400] * 5 + [429]
    form = answers[-1].context["form"]
    assert (form["end_tokens"].value(), form["old_password"].value()) == (True, None)
    assert "Too many failed logins." in answers[-1].text and "Try again in " in answers[-1].text
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_the_console_makes_no_invitation_that_nobody_could_use(client, settings):
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    add = reverse("admin:accounts_invitation_add")
    for answer in (client.get(add, follow=True), client.post(add, {"note": "Ada"}, follow=True)):
        assert "SIGN_UP is `closed`" in answer.content.decode()
    assert not Invitation.objects.exists()
    settings.SIGN_UP = "invitation"
    client.post(add, {"note": "Ada"})
    assert Invitation.objects.get().note == "Ada"
