"""Writes about leaderboards: who stands where."""

import itertools
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.refusals import Conflict, InvalidInput
from leaderboards.history import COUNTS, MAY_RANK, RANKING, SCORE, rebuild_standings, record_standing
from leaderboards.metric_defaults import complete_metric
from leaderboards.models import Baseline, Disqualification, Entry, Leaderboard, Metric, Pause
from leaderboards.moments import zoned
from leaderboards.score_contents import choose, contents_of, find_or_make, fit
from leaderboards.scoring import declared_metrics

# As the board is now: what ranks on it, which way, and whether a job that was scored in this way counts on it at all.
_UPSERT = f"""
INSERT INTO leaderboards_entry (leaderboard_id, user_id, job_id, score, submitted_at, updated_at)
SELECT job.leaderboard_id, job.user_id, job.id, {SCORE}, submission.created_at, statement_timestamp()
FROM jobs_job job JOIN submissions_submission submission ON submission.id = job.submission_id {RANKING}
WHERE job.id = %(job)s AND {MAY_RANK}
ON CONFLICT (leaderboard_id, user_id) DO UPDATE
SET job_id = excluded.job_id, score = excluded.score, submitted_at = excluded.submitted_at, updated_at = excluded.updated_at
WHERE CASE (
        SELECT direction FROM leaderboards_metric metric WHERE metric.leaderboard_id = excluded.leaderboard_id
        ORDER BY position, id LIMIT 1
    ) WHEN 'higher' THEN excluded.score > leaderboards_entry.score ELSE excluded.score < leaderboards_entry.score END
   OR (excluded.score = leaderboards_entry.score AND excluded.submitted_at < leaderboards_entry.submitted_at)
RETURNING score, submitted_at
"""  # noqa: S608 - constants


HAS_SUBMISSIONS = _("It has submissions, so it cannot become a draft: close or hide it instead.")


def record_score(job_id: UUID) -> bool:
    """Make the completed job its user's entry if it is better, or as good and submitted earlier; whether it became the entry.

    One statement, so that two jobs of one person that complete at once leave the better one. Call it inside the
    transaction that completes the job.
    """
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(_UPSERT, {"job": job_id})
        if (entry := cursor.fetchone()) is None:
            return False
        # Another statement: it must see what another job of this person has just recorded.
        record_standing(job_id=job_id, score=entry[0], submitted_at=entry[1])
    return True


def best_jobs(order: str) -> str:
    """Return the query for each person's best job on the board `%(board)s` (of all, or of the person `%(user)s`).

    `order` is that of the ranking metric, DESC or ASC.
    """
    return f"""
        SELECT DISTINCT ON (job.user_id) job.leaderboard_id, job.user_id, job.id AS job_id, {SCORE} AS score,
               submission.created_at AS submitted_at
        FROM jobs_job job JOIN submissions_submission submission ON submission.id = job.submission_id {RANKING}
        WHERE job.leaderboard_id = %(board)s AND {COUNTS} AND (%(user)s::bigint IS NULL OR job.user_id = %(user)s)
        ORDER BY job.user_id, {SCORE} {order}, submission.created_at, job.finished_at, job.id
    """  # noqa: S608 - order is one of two literals


def rebuild_entries(leaderboard: Leaderboard, *, user_id: int | None = None) -> int:
    """Compute entries and their history again from the completed jobs (all, or one person's).

    For when jobs were deleted or metrics changed. Returns the number of entries that stand afterwards. A job that completes
    meanwhile waits, and is then ranked as the board is afterwards.
    """
    metric = leaderboard.metrics.first()
    order = "DESC" if metric and metric.higher_is_better else "ASC"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('entries', %s))", [leaderboard.pk])
        entries = Entry.objects.filter(leaderboard=leaderboard)
        if user_id is not None:
            entries = entries.filter(user_id=user_id)
        entries.delete()
        if metric is None:
            rebuild_standings(leaderboard, None, user_id=user_id)
            return 0
        cursor.execute(
            f"""
            INSERT INTO leaderboards_entry (leaderboard_id, user_id, job_id, score, submitted_at, updated_at)
            SELECT *, statement_timestamp() FROM ({best_jobs(order)}) best
            """,  # noqa: S608 - constants
            {"board": leaderboard.pk, "user": user_id},
        )
        count = cursor.rowcount
        rebuild_standings(leaderboard, metric, user_id=user_id)
        return count


@transaction.atomic
def mark_baseline(leaderboard: Leaderboard, *, user_id: int, label: str = "") -> Baseline:
    """Make a person's entry a reference to beat, which takes no rank; Conflict when the board has its most."""
    Leaderboard.objects.select_for_update().get(pk=leaderboard.pk)  # so that two at once are counted
    others = leaderboard.baselines.exclude(user_id=user_id)
    if others.count() >= Baseline.MOST:
        raise Conflict("too_many_baselines", _("At most %(most)d baselines on one leaderboard."), most=Baseline.MOST)
    return Baseline.objects.update_or_create(
        leaderboard=leaderboard, user_id=user_id, defaults={"label": label} if label else {}
    )[0]


def unmark_baseline(leaderboard: Leaderboard, *, user_id: int) -> bool:
    """Give a person's entry its rank back; whether it was a baseline."""
    return leaderboard.baselines.filter(user_id=user_id).delete()[0] > 0


def _required(reason: str) -> str:
    if not reason.strip():
        raise InvalidInput("missing_reason", _("must say why; it is shown to those concerned."), field="reason")
    return reason.strip()


@transaction.atomic
def disqualify(leaderboard: Leaderboard, *, user_id: int, job_id: UUID, reason: str, by: User | None) -> None:
    """The completed job counts no more; its person's next best does, if there is one. Conflict when it did not count.

    The entry's row is locked by the rebuild, so a job that completes meanwhile is either seen or compared afterwards.
    """
    _made, is_new = Disqualification.objects.get_or_create(
        job_id=job_id, defaults={"reason": _required(reason), "by": by}
    )
    if not is_new:
        raise Conflict("already_disqualified", _("The job is disqualified already."))
    rebuild_entries(leaderboard, user_id=user_id)


@transaction.atomic
def reinstate(leaderboard: Leaderboard, *, user_id: int, job_id: UUID) -> None:
    """The job counts again; Conflict when it was not disqualified."""
    if not Disqualification.objects.filter(job_id=job_id).delete()[0]:
        raise Conflict("not_disqualified", _("The job is not disqualified."))
    rebuild_entries(leaderboard, user_id=user_id)


def pause(leaderboard: Leaderboard | None, *, reason: str, by: User | None) -> Pause:
    """Start no job of the leaderboard (None: none at all) until `resume`. Running ones end as they would."""
    found, is_new = Pause.objects.get_or_create(
        leaderboard=leaderboard, defaults={"reason": _required(reason), "by": by}
    )
    if not is_new:
        raise Conflict("already_paused", _("It is paused already: %(reason)s"), reason=found.reason)
    return found


def resume(leaderboard: Leaderboard | None) -> None:
    """End the pause; Conflict when there is none. Idle workers look by themselves within seconds."""
    if not Pause.objects.filter(leaderboard=leaderboard).delete()[0]:
        raise Conflict("not_paused", _("It is not paused."))


def refuse_closed(leaderboard: Leaderboard) -> None:
    """Raise Conflict while the leaderboard takes nothing: paused by the operators, or not open."""
    if not Leaderboard.objects.open().filter(pk=leaderboard.pk).exists():
        raise why_closed(leaderboard)


def why_closed(leaderboard: Leaderboard) -> Conflict:
    """Return the refusal by a leaderboard that takes nothing."""
    if (paused := Pause.objects.filter(leaderboard=leaderboard).first()) is not None:
        sentence = _("%(slug)s is paused by the operators: %(reason)s")
        return Conflict(
            "leaderboard_paused", sentence, field="leaderboard", slug=leaderboard.slug, reason=paused.reason
        )
    if leaderboard.is_draft:
        return Conflict(
            "leaderboard_closed",
            _("%(slug)s is a draft: publish it first."),
            field="leaderboard",
            slug=leaderboard.slug,
        )
    if (opens_at := opening_of(leaderboard)) is not None:
        return Conflict(
            "leaderboard_closed",
            _("%(slug)s is not open yet. It opens on %(time)s."),
            field="leaderboard",
            slug=leaderboard.slug,
            time=zoned(opens_at),
        )
    return Conflict(
        "leaderboard_closed", _("%(slug)s takes no submissions now."), field="leaderboard", slug=leaderboard.slug
    )


def opening_of(leaderboard: Leaderboard) -> datetime | None:
    """Return when the leaderboard opens by itself; None when it is open, closed for good or switched off."""
    return Leaderboard.objects.upcoming().filter(pk=leaderboard.pk).values_list("opens_at", flat=True).first()


def publish(leaderboard: Leaderboard) -> None:
    """Make a draft visible and open, as its other fields say; Conflict if it is published."""
    if not Leaderboard.objects.filter(pk=leaderboard.pk, is_draft=True).update(is_draft=False):
        raise Conflict("already_published", _("It is published already."))
    leaderboard.is_draft = False


@transaction.atomic
def unpublish(leaderboard: Leaderboard) -> None:
    """Make the leaderboard a draft again; Conflict if it is one, or if anyone has submitted to it."""
    # Submissions that come meanwhile wait for the key of this row.
    row = Leaderboard.objects.select_for_update().get(pk=leaderboard.pk)
    if row.is_draft:
        raise Conflict("not_published", _("It is a draft already."))
    if row.submissions.exists():
        raise Conflict("has_submissions", HAS_SUBMISSIONS)
    row.is_draft = leaderboard.is_draft = True
    row.save(update_fields=["is_draft"])


@transaction.atomic
def create_leaderboard(
    *, slug: str, title: str, metrics: list[dict[str, Any]], force_direction: bool = False, **fields: Any
) -> Leaderboard:
    """Create a leaderboard with its metrics in order (dicts of Metric's fields); the first one ranks.

    Fields that are not given are as the scorer declares them. Raises InvalidInput, also for a metric that the scorer does
    not give, and for a direction against the scorer's without `force_direction`.
    """
    leaderboard = Leaderboard(slug=slug, title=title, **fields)
    leaderboard.full_clean()
    leaderboard.save()
    declared = declared_metrics(leaderboard.scorer)
    for position, metric in enumerate(metrics):
        complete = complete_metric(declared, metric, is_forced=force_direction)
        row = Metric(leaderboard=leaderboard, position=position, **complete)
        row.full_clean()
        row.save()
    fit(leaderboard)
    return leaderboard


@transaction.atomic
def copy_leaderboard(leaderboard: Leaderboard) -> Leaderboard:
    """A draft that measures the same, without jobs, entries or baselines."""
    taken = set(Leaderboard.objects.filter(slug__startswith=leaderboard.slug[:40]).values_list("slug", flat=True))
    slug = next(name for number in itertools.count(2) if (name := f"{leaderboard.slug[:40]}-{number}") not in taken)
    own = {"id", "slug", "is_draft", "created_at", "score_version_id"}
    fields = {field.attname: getattr(leaderboard, field.attname) for field in Leaderboard._meta.concrete_fields}
    made = Leaderboard.objects.create(
        **{name: value for name, value in fields.items() if name not in own},
        slug=slug,
        is_draft=True,
    )
    for metric in leaderboard.metrics.all():
        metric.pk, metric.leaderboard = None, made
        metric.save(force_insert=True)
    if leaderboard.score_version is not None:
        version = find_or_make(made, contents_of(leaderboard.score_version))
        choose(made, version, by=None, reason="")
    return made
