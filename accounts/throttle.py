"""Slow down password guessing. Failures are counted in PostgreSQL, so that all web processes share the counts.

Three counters see a failed login: one for the account from this address, one for the account across all addresses where it
never signed in, and one for the address. The second slows an account down but never closes it for long. At an address where
a person signed in before, the second does not apply. On a browser where they did, one counter of its own replaces all three.
Unknown names are counted like known ones.

Only failures count. An attempt reads its counters and is verified within `hashing_slot`, so only as many guesses can pass a
bound together as are hashed together. Once a counter has reached its bound, an attempt is counted before it is verified, so
that only one passes at a time.
"""

import hashlib
import ipaddress
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.models import KnownLogin, LoginCounter
from accounts.refusals import QuotaExceeded

FORGET_SECONDS = 3600
KNOWN_DAYS = 90
SWEEP_ROWS = 100
DEVICE_COOKIE = "device"
DEVICE_PREFIX = "lbd_"
# The seconds to wait are in `Retry-After`; pages put them into words beside the sentence.
TOO_MANY_LOGINS = _("Too many failed logins.")
TOO_MANY_SIGN_UPS = _("Too many tries to sign up.")


@dataclass(frozen=True)
class Bound:
    """From this number of failures on, each one is followed by a wait, which doubles up to `longest_seconds`."""

    failures: int
    first_seconds: int
    longest_seconds: int


PAIR = Bound(5, 30, 900)  # one account from one address, or on one known browser
ACCOUNT = Bound(10, 1, 60)  # one account from all addresses that it is not known at
ADDRESS = Bound(20, 30, 900)  # many people may share one address

# Times are the database's.
_READ = """
SELECT digest, failures, extract(epoch FROM blocked_until - clock_timestamp()) FROM accounts_logincounter
WHERE digest = ANY(%s) AND updated_at >= clock_timestamp() - make_interval(secs => %s) ORDER BY digest
"""
_COUNT = """
INSERT INTO accounts_logincounter AS counter (digest, failures, updated_at) VALUES (%(digest)s, 1, clock_timestamp())
ON CONFLICT (digest) DO UPDATE SET
    failures = CASE WHEN counter.updated_at < clock_timestamp() - make_interval(secs => %(forget)s)
        THEN 1 ELSE counter.failures + 1 END,
    blocked_until = CASE WHEN counter.failures + 1 >= %(limit)s
        AND counter.updated_at >= clock_timestamp() - make_interval(secs => %(forget)s)
        THEN clock_timestamp() + make_interval(
            secs => least(%(longest)s, %(first)s * power(2, least(counter.failures + 1 - %(limit)s, 20)))) END,
    updated_at = clock_timestamp()
"""
_GIVE_BACK = """
UPDATE accounts_logincounter SET failures = greatest(failures - %s, 0), blocked_until = NULL WHERE digest = %s
"""
_SWEEP = """
DELETE FROM accounts_logincounter WHERE digest IN (
    SELECT digest FROM accounts_logincounter WHERE updated_at < statement_timestamp() - make_interval(secs => %s)
    ORDER BY updated_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""


@dataclass
class Attempt:
    """One attempt to sign in or sign up, with the counters that it is judged by. The first is its own."""

    counters: Sequence[tuple[str, Bound]]
    code: str = "too_many_logins"
    sentence: object = TOO_MANY_LOGINS
    known_as: Sequence[str] = ()  # digests to remember after a success
    _counted: set[str] = field(default_factory=set)

    def check(self) -> None:
        """Raise QuotaExceeded, with the seconds to wait, if a counter blocks. Count nothing."""
        self._read()

    def admit(self) -> None:
        """Check, and count the attempt at once in counters that have reached their bound."""
        bounds = dict(self.counters)
        with transaction.atomic():
            failures = self._read(lock=True)
            self._counted = {digest for digest in failures if failures[digest] >= bounds[digest].failures}
            self._count(self._counted)

    def fail(self) -> None:
        """Count the failure, and sweep counters that have expired."""
        with transaction.atomic():
            self._count({digest for digest, _bound in self.counters} - self._counted)
        with connection.cursor() as cursor:
            cursor.execute(_SWEEP, [FORGET_SECONDS + ADDRESS.longest_seconds, SWEEP_ROWS])

    def succeed(self) -> None:
        """Take the own counter's failures out of all counters, and remember where the person signed in."""
        own = self.counters[0][0]
        with transaction.atomic():
            failures = self._read(lock=True, may_refuse=False)
            with connection.cursor() as cursor:
                for digest in failures.keys() - {own}:
                    # The own counter's failures, less or more what this attempt counted in only one of the two.
                    same = failures.get(own, 0) - (own in self._counted) + (digest in self._counted)
                    cursor.execute(_GIVE_BACK, [same, digest])
            LoginCounter.objects.filter(digest=own).delete()
            _remember(self.known_as)

    def _read(self, *, lock: bool = False, may_refuse: bool = True) -> dict[str, int]:
        """Return the failures of each counter. Rows are locked in the order of their digests, as everywhere."""
        with connection.cursor() as cursor:
            digests = [digest for digest, _bound in self.counters]
            cursor.execute(f"{_READ} FOR UPDATE" if lock else _READ, [digests, FORGET_SECONDS])
            rows = cursor.fetchall()
        seconds = max((wait for _digest, _failures, wait in rows if wait is not None), default=0)
        if may_refuse and seconds > 0:
            raise QuotaExceeded(self.code, self.sentence, retry_after=math.ceil(seconds))
        return {digest: failures for digest, failures, _wait in rows}

    def _count(self, digests: set[str]) -> None:
        with connection.cursor() as cursor:
            for digest, bound in sorted(self.counters, key=lambda counter: counter[0]):
                if digest in digests:
                    given: dict[str, str | int] = {
                        "digest": digest, "limit": bound.failures, "first": bound.first_seconds,
                        "longest": bound.longest_seconds, "forget": FORGET_SECONDS,
                    }  # fmt: skip
                    cursor.execute(_COUNT, given)


def login_attempt(request: HttpRequest | None, username: str, *, is_signed_in: bool = False) -> Attempt:
    """Return an attempt to give an account's password; with `is_signed_in`, the old one that a change asks for."""
    account, address = username.casefold(), client_address(request)
    network, device = _network(address), _device(request)
    at_address, on_device = _digest("known address", account, network), _digest("known device", account, device)
    known = set(
        KnownLogin.objects.filter(
            digest__in=[at_address, on_device], seen_at__gt=Now() - timedelta(days=KNOWN_DAYS)
        ).values_list("digest", flat=True)
    )
    known_as = [at_address] * bool(network) + [on_device] * bool(device)
    if device and on_device in known:
        return Attempt([(_digest("device", account, device), PAIR)], known_as=known_as)
    counters = [(_digest("pair", account, network), PAIR)]
    if network:
        counters.append((_digest("address", network), ADDRESS))
    if not is_signed_in and at_address not in known:
        counters.append((_digest("account at unknown addresses", account), ACCOUNT))
    return Attempt(counters, known_as=known_as)


def sign_up_attempt(request: HttpRequest) -> Attempt:
    """Return an attempt to make an account, which may be a guess of an invitation."""
    network = _network(client_address(request))
    return Attempt([(_digest("sign-up", network), ADDRESS)], "too_many_sign_ups", TOO_MANY_SIGN_UPS)


def allow_login(username: str, address: str = "") -> None:
    """Forget the account's failures. With an address, forget the address's too and treat the account as known there."""
    account, network = username.casefold(), _network(address)
    digests = [_digest("account at unknown addresses", account)]
    if network:
        digests += [_digest("pair", account, network), _digest("address", network)]
        _remember([_digest("known address", account, network)])
    LoginCounter.objects.filter(digest__in=digests).delete()


def client_address(request: HttpRequest | None) -> str:
    """Return the peer's address, or the one that the outermost of NUM_PROXIES proxies saw. Clients cannot choose it."""
    if request is None:
        return ""
    forwarded = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    if settings.NUM_PROXIES and forwarded:
        return str(forwarded[-min(settings.NUM_PROXIES, len(forwarded))])
    return str(request.META.get("REMOTE_ADDR", ""))


def keep_device(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Set the browser's cookie after a login. Unlike the session's, it outlives a logout."""
    if device := getattr(request, "device", ""):
        response.set_cookie(
            DEVICE_COOKIE, device, max_age=KNOWN_DAYS * 86400, httponly=True, samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )  # fmt: skip
    return response


def _device(request: HttpRequest | None) -> str:
    """Return the browser's name from its cookie, or a new one for `keep_device` to set; empty in the API, which has no cookies."""
    if request is None or not hasattr(request, "session"):
        return ""
    device: str = request.COOKIES.get(DEVICE_COOKIE, "")
    if not device.startswith(DEVICE_PREFIX) or len(device) > 100:
        device = DEVICE_PREFIX + secrets.token_urlsafe(24)
    request.device = device  # type: ignore[attr-defined]
    return device


def _remember(digests: Sequence[str]) -> None:
    KnownLogin.objects.bulk_create(
        [KnownLogin(digest=digest, seen_at=Now()) for digest in sorted(digests)],
        update_conflicts=True,
        unique_fields=["digest"],
        update_fields=["seen_at"],
    )
    old = KnownLogin.objects.filter(seen_at__lt=Now() - timedelta(days=KNOWN_DAYS))
    KnownLogin.objects.filter(digest__in=list(old.values_list("digest", flat=True)[:SWEEP_ROWS])).delete()


def _network(address: str) -> str:
    """Return what counts as one address: an IPv6 client owns a whole /64."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(known), 64), strict=False))
    return str(getattr(known, "ipv4_mapped", None) or known)


def _digest(kind: str, *values: str) -> str:
    return hashlib.sha256(":".join([kind, *values]).encode("utf-8", "surrogatepass")).hexdigest()
