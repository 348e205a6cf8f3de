"""Throttled logins, per account and per address, counted in PostgreSQL so that all web processes share the count.

A login counts as failed before its password is looked at and is taken back when it was right: so logins sent at once
cannot pass the limit together, and what is refused costs no hashing. Unknown names are counted like known ones.
"""

import hashlib
import ipaddress
import math

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.models import LoginCounter
from accounts.refusals import QuotaExceeded

ACCOUNT_FAILURES = 5
ADDRESS_FAILURES = 20  # many people may share one address
FIRST_WAIT_SECONDS = 30  # doubled by every further failure
LONGEST_WAIT_SECONDS = 900
FORGET_SECONDS = 3600
SWEEP_ROWS = 100
# How long to wait stands in `Retry-After`; pages say it beside the sentence, in their reader's words.
TOO_MANY_LOGINS = _("Too many failed logins.")

# Time is the database's. A counter that blocks is not touched: RETURNING gives no row then.
_COUNT = """
INSERT INTO accounts_logincounter AS counter (digest, failures, updated_at) VALUES (%(digest)s, 1, statement_timestamp())
ON CONFLICT (digest) DO UPDATE SET
    failures = CASE WHEN counter.updated_at < statement_timestamp() - make_interval(secs => %(forget)s)
        THEN 1 ELSE counter.failures + 1 END,
    blocked_until = CASE WHEN counter.failures + 1 >= %(limit)s
        AND counter.updated_at >= statement_timestamp() - make_interval(secs => %(forget)s)
        THEN statement_timestamp() + make_interval(
            secs => least(%(longest)s, %(first)s * power(2, least(counter.failures + 1 - %(limit)s, 20)))) END,
    updated_at = statement_timestamp()
WHERE counter.blocked_until IS NULL OR counter.blocked_until <= statement_timestamp()
RETURNING failures
"""
_WAIT = """
SELECT extract(epoch FROM blocked_until - clock_timestamp()) FROM accounts_logincounter WHERE digest = %s
"""
_SWEEP = """
DELETE FROM accounts_logincounter WHERE digest IN (
    SELECT digest FROM accounts_logincounter WHERE updated_at < statement_timestamp() - make_interval(secs => %s)
    ORDER BY updated_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""


def client_address(request: HttpRequest | None) -> str:
    """Who is asking: the peer, or what the outermost of our NUM_PROXIES proxies saw. A client can put no word in."""
    if request is None:
        return ""
    forwarded = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    if settings.NUM_PROXIES and forwarded:
        return str(forwarded[-min(settings.NUM_PROXIES, len(forwarded))])
    return str(request.META.get("REMOTE_ADDR", ""))


def check_login(username: str, address: str) -> None:
    """Count one more login; raises QuotaExceeded, with the seconds to wait, when the account or the address is blocked."""
    with transaction.atomic():  # the address first, always: two logins at once lock in one order
        if address:
            _count(_address_digest(address), ADDRESS_FAILURES)
        _count(_account_digest(username), ACCOUNT_FAILURES)


def check_sign_up(address: str) -> None:
    """Count one more try to sign up from the address; raises QuotaExceeded when there were too many."""
    sentence = _("Too many tries to sign up.")
    _count(_address_digest(address, "sign-up"), ADDRESS_FAILURES, "too_many_sign_ups", sentence)


def record_failure(username: str, address: str) -> None:
    """The password was wrong: the count stands already. Sweeps counters that are long over."""
    with connection.cursor() as cursor:
        cursor.execute(_SWEEP, [FORGET_SECONDS + LONGEST_WAIT_SECONDS, SWEEP_ROWS])


def record_success(username: str, address: str) -> None:
    """The password was right: the account starts anew, the address gets this one back."""
    with transaction.atomic():
        if address:
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE accounts_logincounter SET failures = greatest(failures - 1, 0), "
                    "blocked_until = CASE WHEN failures > %s THEN blocked_until END WHERE digest = %s",
                    [ADDRESS_FAILURES, _address_digest(address)],
                )
        LoginCounter.objects.filter(digest=_account_digest(username)).delete()


def _count(digest: str, limit: int, code: str = "too_many_logins", sentence: object = TOO_MANY_LOGINS) -> None:
    given: dict[str, str | int] = {
        "digest": digest, "limit": limit, "first": FIRST_WAIT_SECONDS, "longest": LONGEST_WAIT_SECONDS,
        "forget": FORGET_SECONDS,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, given)
        if cursor.fetchone():
            return
        cursor.execute(_WAIT, [digest])
        row = cursor.fetchone()
    seconds = max(1, math.ceil(row[0])) if row and row[0] else 1
    raise QuotaExceeded(code, sentence, retry_after=seconds)


def _account_digest(username: str) -> str:
    return _digest("account", username.casefold())


def _address_digest(address: str, kind: str = "address") -> str:
    """An IPv6 client owns a whole /64, so that is what counts."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return _digest(kind, address)
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return _digest(kind, str(ipaddress.ip_network((known, 64), strict=False)))
    return _digest(kind, str(getattr(known, "ipv4_mapped", None) or known))


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}:{value}".encode("utf-8", "surrogatepass")).hexdigest()
