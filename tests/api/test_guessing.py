"""Guessing passwords: how many tries there are, where owners are not slowed down, and many logins at once."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from statistics import median

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import hashing, throttle
from accounts.models import ApiToken, KnownLogin, LoginCounter
from accounts.tests.factories import PASSWORD, UserFactory, make_hashes_quick
from tests.api.conftest import refusal
from tests.api.test_login import WRONG, login, told

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quick_hashes(request, monkeypatch):
    """The counts do not depend on how slow a hash is; the test of the hashing itself is marked slow."""
    if request.node.get_closest_marker("slow") is None:
        make_hashes_quick(monkeypatch)


def test_five_wrong_passwords_then_429_even_for_the_right_one(user):
    assert [told(login(user.username, "wrong")) for _ in range(5)] == [WRONG] * 5
    answer = login(user.username)
    assert refusal(answer) == (429, "too_many_logins")
    assert int(answer.headers["Retry-After"]) in (29, 30)
    assert ApiToken.objects.count() == 0


def test_five_wrong_passwords_elsewhere_leave_the_owner_alone(user):
    for _ in range(6):
        login(user.username, "wrong", REMOTE_ADDR="192.0.2.66")
    assert login(user.username, REMOTE_ADDR="192.0.2.66").status_code == 429
    assert login(user.username.upper(), "wrong", REMOTE_ADDR="192.0.2.66").status_code == 429  # no fresh count by case
    assert login(user.username).status_code == 200


def attack(username, tries=throttle.ACCOUNT.failures):
    """Try one wrong password from each of many addresses; return the last answer's status."""
    return [login(username, "wrong", REMOTE_ADDR=f"203.0.113.{n}").status_code for n in range(tries)][-1]


def keep_attacking(username, tries=throttle.ACCOUNT.failures):
    """Attack, and set the wait as if the last try had just been made, however slow this machine is."""
    attack(username, tries)
    digest = throttle._digest("account at unknown addresses", username.casefold())
    LoginCounter.objects.filter(digest=digest).update(blocked_until=timezone.now() + timedelta(minutes=1))


def test_many_addresses_slow_an_account_down_and_never_for_longer_than_a_minute(user):
    began = time.monotonic()
    assert attack(user.username) == 401
    for number, most in enumerate([1, 2, 4, 8, 16, 32, 60, 60, 60]):
        answer = login(user.username, REMOTE_ADDR=f"192.0.2.{number}")
        assert refusal(answer) == (429, "too_many_logins")
        # The wait runs down while the test itself takes its time.
        assert 0 <= most - int(answer.headers["Retry-After"]) <= time.monotonic() - began
        passed(1)
        began = time.monotonic()
        assert login(user.username, "wrong", REMOTE_ADDR=f"198.51.100.{number}").status_code == 401


def test_an_unknown_and_an_inactive_name_are_answered_alike():
    UserFactory(username="gone", is_active=False)
    for name in ("nobody-at-all", "gone"):
        assert attack(name) == 401
        assert refusal(login(name, PASSWORD, REMOTE_ADDR="192.0.2.9")) == (429, "too_many_logins")


def test_an_owner_gets_in_from_where_they_were_before_whatever_others_do(user):
    assert login(user.username).status_code == 200
    keep_attacking(user.username)
    assert login(user.username, REMOTE_ADDR="192.0.2.9").status_code == 429
    assert [login(user.username).status_code for _ in range(3)] == [200] * 3
    # It opens no way around the count for others, nor an endless one there.
    assert login(user.username, REMOTE_ADDR="192.0.2.9").status_code == 429
    assert [login(user.username, "wrong").status_code for _ in range(6)] == [401] * 5 + [429]


def sign_in(client, user, password=PASSWORD, **extra):
    return client.post("/login/", {"username": user.username, "password": password}, **extra).status_code


@pytest.mark.parametrize("path", ["/login/", "/admin/login/"])
def test_an_owner_gets_in_on_their_own_browser_from_any_address(path):
    user, client = UserFactory(is_staff=True), Client()
    assert client.post(path, {"username": user.username, "password": PASSWORD}).status_code == 302
    cookie = client.cookies["device"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    client.logout()
    client.cookies["device"] = cookie.value
    keep_attacking(user.username)
    for n in range(throttle.ADDRESS.failures):  # an address that is blocked for all
        login(f"name-{n}", "wrong", REMOTE_ADDR="192.0.2.9")
    assert sign_in(Client(), user, REMOTE_ADDR="192.0.2.9") == 429
    assert sign_in(Client(), user, REMOTE_ADDR="192.0.2.10") == 429
    assert sign_in(client, user, REMOTE_ADDR="192.0.2.9") == 302


def test_a_browser_is_known_for_its_person_alone_and_may_guess_five_times(user):
    client, other = Client(), UserFactory()
    assert sign_in(client, other) == 302
    cookie = client.cookies["device"].value
    guesser = Client()
    guesser.cookies["device"] = cookie
    keep_attacking(user.username)
    assert sign_in(guesser, user, REMOTE_ADDR="192.0.2.9") == 429
    statuses = [sign_in(guesser, other, "wrong", REMOTE_ADDR=f"192.0.2.{n}") for n in range(6)]
    assert statuses == [200] * 5 + [429]
    assert cookie not in str(list(KnownLogin.objects.values_list()))


def test_a_known_address_is_forgotten_after_ninety_days(user):
    login(user.username)
    KnownLogin.objects.update(seen_at=timezone.now() - timedelta(days=throttle.KNOWN_DAYS, seconds=1))
    keep_attacking(user.username)
    assert login(user.username).status_code == 429
    passed(1)
    assert login(user.username).status_code == 200
    assert KnownLogin.objects.filter(seen_at__lt=timezone.now() - timedelta(days=1)).count() == 0


def test_counters_of_an_older_version_shut_no_one_out(user):
    digest = hashlib.sha256(f"account:{user.username}".encode()).hexdigest()
    LoginCounter.objects.create(digest=digest, failures=9, blocked_until=timezone.now() + timedelta(hours=1))
    assert login(user.username).status_code == 200


@pytest.mark.parametrize("with_address", [False, True])
def test_an_operator_lets_a_person_in_by_command(user, with_address, capsys):
    for _ in range(6):
        login(user.username, "wrong", REMOTE_ADDR="2001:db8::1")
    keep_attacking(user.username)
    call_command("allow_login", user.username, *["--address", "2001:db8::1"] * with_address)
    assert user.username in capsys.readouterr().out
    # From a new address the attack goes on: only a known one stays free of it.
    assert login(user.username, REMOTE_ADDR="192.0.2.9").status_code == 200
    keep_attacking(user.username)
    assert login(user.username, REMOTE_ADDR="2001:db8::2").status_code == (200 if with_address else 429)


@pytest.mark.parametrize("words", [["no-such-person"], ["known", "--address", "somewhere"]])
def test_the_command_refuses_what_it_cannot_find(words):
    UserFactory(username="known")
    with pytest.raises(CommandError, match=r"no-such-person|somewhere"):
        call_command("allow_login", *words)


def test_the_right_password_starts_anew(user):
    for _ in range(3):
        assert [login(user.username, "wrong").status_code for _ in range(4)] == [401] * 4
        assert login(user.username).status_code == 200


def test_one_address_that_tries_many_names(user):
    assert [login(f"name-{n}", "wrong").status_code for n in range(20)] == [401] * 20
    assert refusal(login(user.username)) == (429, "too_many_logins")
    assert login(user.username, REMOTE_ADDR="192.0.2.1").status_code == 200


def test_right_passwords_do_not_use_up_an_address(user):
    assert [login(user.username).status_code for _ in range(25)] == [200] * 25


def test_an_ipv6_client_counts_as_its_network(user):
    for n in range(20):
        login(f"name-{n}", "wrong", REMOTE_ADDR=f"2001:db8::{n:x}")
    assert login(user.username, REMOTE_ADDR="2001:db8::ffff").status_code == 429
    assert login(user.username, REMOTE_ADDR="2001:db8:0:1::1").status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.1", "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "6.6.6.6, 203.0.113.1", "203.0.113.1"),
        (2, "6.6.6.6, 203.0.113.1, 10.0.0.1", "203.0.113.1"),
        (3, "203.0.113.1", "203.0.113.1"),
    ],
)
def test_the_address_is_what_our_own_proxies_saw(rf, settings, proxies, forwarded, address):
    settings.NUM_PROXIES = proxies
    assert throttle.client_address(rf.get("/", headers={"X-Forwarded-For": forwarded})) == address


def passed(seconds):
    LoginCounter.objects.update(
        blocked_until=timezone.now() if seconds else None, updated_at=timezone.now() - timedelta(seconds=seconds)
    )


def test_each_further_failure_at_an_address_doubles_the_wait_up_to_a_quarter_hour(user):
    for _ in range(5):
        login(user.username, "wrong")
    waits = []
    for _ in range(7):
        waits.append(int(login(user.username).headers["Retry-After"]))
        passed(1)
        assert login(user.username, "wrong").status_code == 401
    assert [round(wait / 10) * 10 for wait in waits] == [30, 60, 120, 240, 480, 900, 900]


def test_an_hour_later_all_is_forgotten_and_swept(user):
    for _ in range(5):
        login(user.username, "wrong")
    passed(throttle.FORGET_SECONDS + 1)
    assert [login(user.username, "wrong").status_code for _ in range(5)] == [401] * 5
    passed(throttle.FORGET_SECONDS + throttle.ADDRESS.longest_seconds + 1)
    login("somebody-else", "wrong", REMOTE_ADDR="192.0.2.1")
    assert LoginCounter.objects.count() == 3


def test_no_name_and_no_address_is_kept_in_clear(user):
    login("my-password-by-mistake", "wrong")
    assert [len(counter.digest) for counter in LoginCounter.objects.all()] == [64] * 3


def test_the_login_page_and_the_admins_login_are_behind_the_same_count(client, user):
    for path in ("/login/", "/admin/login/", "/login/", "/admin/login/", "/login/"):
        assert client.post(path, {"username": user.username, "password": "wrong"}).status_code == 200
    for path in ("/login/", "/admin/login/"):
        answer = client.post(path, {"username": user.username, "password": PASSWORD})
        assert (answer.status_code, int(answer.headers["Retry-After"]) in range(1, 31)) == (429, True)
        assert b"Too many failed logins" in answer.content
    assert login(user.username).status_code == 429


def test_the_console_leads_to_the_page_where_old_passwords_are_counted(client):
    client.force_login(UserFactory(is_staff=True))
    sent = {"old_password": "wrong", "new_password1": "another-1234", "new_password2": "another-1234"}
    for answer in (client.get("/admin/password_change/"), client.post("/admin/password_change/", sent)):
        assert (answer.status_code, answer["Location"]) == (302, "/account/password/")


# --- Many at once --------------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch):
    """Collect for each verified password how many are under way then. Each takes long enough to meet others."""
    counts, under_way, lock = [], [], threading.Lock()
    verify = Argon2PasswordHasher.verify

    def counted(*given):
        with lock:
            under_way.append(1)
            counts.append(len(under_way))
        try:
            time.sleep(0.05)
            return verify(*given)
        finally:
            with lock:
                under_way.pop()

    monkeypatch.setattr(Argon2PasswordHasher, "verify", counted)
    return counts


def at_once(number, call):
    start = threading.Barrier(number)

    def one(place):
        start.wait()
        try:
            return call(place)
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return sorted(pool.map(one, range(number)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_spread", [False, True])
def test_wrong_logins_at_once_cannot_pass_the_limit_to_the_hasher(user, hashed, is_spread):
    most = (throttle.ACCOUNT if is_spread else throttle.PAIR).failures
    statuses = at_once(16, lambda n: login(user.username, "wrong", REMOTE_ADDR=f"192.0.2.{n * is_spread}").status_code)
    # A guess that is hashed at the same time as the last one was let in before that one had failed.
    assert statuses.count(401) == len(hashed) and most <= len(hashed) < most + hashing.AT_ONCE
    assert set(statuses) == {401, 429} and max(hashed) <= hashing.AT_ONCE


@pytest.mark.django_db(transaction=True)
def test_beyond_the_limit_one_guess_passes_at_a_time(user, hashed):
    for _ in range(throttle.PAIR.failures):
        login(user.username, "wrong")
    passed(1)
    hashed.clear()
    assert at_once(16, lambda _n: login(user.username, "wrong").status_code) == [401] + [429] * 15
    assert len(hashed) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_spread", [False, True])
def test_right_logins_at_once_are_all_let_in(user, hashed, is_spread):
    statuses = at_once(16, lambda n: login(user.username, REMOTE_ADDR=f"192.0.2.{n * is_spread}").status_code)
    assert (statuses, max(hashed) <= hashing.AT_ONCE) == ([200] * 16, True)
    assert LoginCounter.objects.filter(failures__gt=0).count() == 0


@pytest.mark.django_db(transaction=True)
def test_right_and_wrong_logins_at_once_end_and_are_counted(user):
    people = [UserFactory() for _ in range(4)]

    def one(n):
        return login(people[n % 4].username, PASSWORD if n % 3 else "wrong").status_code

    statuses = at_once(12, one)
    assert (statuses.count(200), statuses.count(401)) == (8, 4)


def test_a_full_house_is_told_after_a_bounded_wait(user, monkeypatch):
    monkeypatch.setattr(hashing, "LONGEST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(hashing, "_slots", threading.BoundedSemaphore(1))
    with hashing._slots:
        answer = login(user.username)
    assert (refusal(answer), answer.headers["Retry-After"]) == ((503, "unavailable"), "5")
    assert LoginCounter.objects.count() == 0


@pytest.mark.slow
def test_a_known_and_an_unknown_name_take_comparable_time(user, monkeypatch):
    for name in ("PAIR", "ACCOUNT", "ADDRESS"):
        monkeypatch.setattr(throttle, name, throttle.Bound(1000, 1, 1))

    def seconds(name):
        began = time.perf_counter()
        assert login(name, "wrong").status_code == 401
        return time.perf_counter() - began

    seconds(user.username)
    known, unknown = zip(*[(seconds(user.username), seconds("nobody")) for _ in range(5)], strict=True)
    assert 0.5 < median(known) / median(unknown) < 2
