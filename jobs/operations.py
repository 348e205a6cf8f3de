"""What operators do to jobs, workers, people and the queue."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import Count, QuerySet
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

import leaderboards.operations  # noqa: F401 - registers its actions
from accounts.models import ApiToken, User
from accounts.operations import Action, ReasonForm, register
from accounts.permissions import may_manage
from accounts.refusals import Conflict
from accounts.services import let_in, record_action, revoke_token, set_quota
from jobs import services, steering
from jobs.models import Job, Status
from jobs.waiting import live_workers, usual_seconds
from leaderboards.models import Disqualification
from leaderboards.services import disqualify, reinstate


def _about(seconds: float) -> str:
    """A rough time in words."""
    if seconds < 90:
        return ngettext("%(n)d second", "%(n)d seconds", max(1, round(seconds))) % {"n": max(1, round(seconds))}
    if seconds < 5400:
        return ngettext("%(n)d minute", "%(n)d minutes", round(seconds / 60)) % {"n": round(seconds / 60)}
    hours = localize(round(seconds / 3600, 1))
    return _("%(n)s hours") % {"n": hours}


class JobAction(Action):
    model = "jobs.job"
    permission = "jobs.change_job"

    def objects(self) -> QuerySet[Job]:
        return Job.objects.select_related("leaderboard", "user")


def _by_status(ids: Sequence[Any]) -> dict[str, int]:
    return dict(Job.objects.filter(pk__in=ids).values_list("status").annotate(number=Count("pk")))


@register
class CancelJob(JobAction):
    code = "cancel_job"
    label = gettext_lazy("Cancel")
    is_grave = True

    def suits(self, obj: Any) -> bool:
        return not obj.is_final

    def effects(self, ids: Sequence[Any]) -> list[str]:
        number = _by_status(ids)
        pending, running = number.get(Status.PENDING, 0), number.get(Status.RUNNING, 0)
        return [
            _(
                "%(pending)d wait and end at once; %(running)d run and end within about %(time)s; %(rest)d have ended and stay."
            )
            % {
                "pending": pending,
                "running": running,
                "time": _about(settings.HEARTBEAT_SECONDS + 5),
                "rest": len(ids) - pending - running,
            }
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.cancel_job(obj, by=by, reason=reason)


@register
class RerunJob(JobAction):
    code = "rerun_job"
    label = gettext_lazy("Run again, behind new work")

    def suits(self, obj: Any) -> bool:
        return bool(obj.is_final)

    def effects(self, ids: Sequence[Any]) -> list[str]:
        number = _by_status(ids)
        ended = sum(count for status, count in number.items() if status not in (Status.PENDING, Status.RUNNING))
        lines = [
            _(
                "%(ended)d have ended and run again as new jobs behind all new work, at no cost to anybody's quota; %(rest)d have not ended and are left alone."
            )
            % {"ended": ended, "rest": len(ids) - ended}
        ]
        for name in settings.RESOURCE_CLASSES:
            count = Job.objects.filter(pk__in=ids, resource_class=name).count()
            usual, workers = usual_seconds(name), len(live_workers(name))
            if count and usual and workers:
                lines.append(
                    _("Class %(name)s: about %(time)s, should nothing else come. Workers that take it: %(workers)d.")
                    % {"name": name, "time": _about(count * usual / workers), "workers": workers}
                )
            elif count:
                lines.append(
                    _("Class %(name)s: nobody can say how long; no worker or no past run of it is there.")
                    % {"name": name}
                )
        return lines

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.rerun_job(obj, by=by, reason=reason)


@register
class DisqualifyJob(JobAction):
    code = "disqualify_job"
    label = gettext_lazy("Disqualify")
    permission = "leaderboards.change_entry"
    is_grave = True

    def suits(self, obj: Any) -> bool:
        return obj.status == Status.COMPLETED and not hasattr(obj, "disqualification")

    def effects(self, ids: Sequence[Any]) -> list[str]:
        counted = Job.objects.filter(pk__in=ids, entry__isnull=False).count()
        return [
            _("On a leaderboard now: %(count)d; there the person's next best counts at once, if there is one.")
            % {"count": counted},
            _("The reason is shown to the person, on the job's page."),
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        if obj.status != Status.COMPLETED:
            raise Conflict("not_completed", gettext_lazy("Only a completed job can be disqualified."))
        disqualify(obj.leaderboard, user_id=obj.user_id, job_id=obj.pk, reason=reason, by=by)
        record_action(by, "disqualify_job", [obj], reason=reason, details={"score": obj.score})


@register
class DisqualifyEntry(DisqualifyJob):
    """From the list of entries: the job that stood there when it was chosen, not a better one that came since."""

    code = "disqualify_entry"
    model = "leaderboards.entry"
    chosen_field = "job_id"

    def objects(self) -> QuerySet[Job]:
        return Job.objects.select_related("leaderboard", "user")


@register
class ReinstateJob(Action):
    code = "reinstate_job"
    label = gettext_lazy("Reinstate")
    model = "leaderboards.disqualification"
    permission = "leaderboards.change_entry"

    def objects(self) -> QuerySet[Disqualification]:
        return Disqualification.objects.select_related("job__leaderboard")

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("They count again at once, where they are their person's best.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        job = obj.job
        reinstate(job.leaderboard, user_id=job.user_id, job_id=job.pk)
        record_action(by, self.code, [job], reason=reason, details={"was": obj.reason})


class UserAction(Action):
    model = "accounts.user"
    permission = "accounts.change_user"

    def reaches(self, obj: Any, by: User) -> bool:
        return may_manage(by, obj)


class QuotaForm(ReasonForm):
    submissions_per_hour = forms.IntegerField(
        label=gettext_lazy("Submissions per hour"), min_value=0, max_value=100_000, required=False,
        help_text=gettext_lazy("Empty: the site's."),
    )  # fmt: skip
    concurrent_jobs = forms.IntegerField(
        label=gettext_lazy("Jobs at once"), min_value=0, max_value=10_000, required=False,
        help_text=gettext_lazy("Empty: the site's."),
    )  # fmt: skip
    field_order = ["submissions_per_hour", "concurrent_jobs", "reason"]


@register
class ChangeQuota(UserAction):
    code = "change_quota"
    label = gettext_lazy("Change the quota")
    form_class = QuotaForm

    def initial(self, ids: Sequence[Any]) -> dict[str, Any]:
        # An empty field gives the site's back: one person's own must not be lost by changing the other number.
        own = User.objects.filter(pk__in=ids).values("submissions_per_hour", "concurrent_jobs")
        return dict(own.get()) if len(ids) == 1 else {}

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [
            _("It holds from their next submission on. The site's: %(hour)d an hour, %(once)d at once.")
            % {"hour": settings.SUBMISSIONS_PER_HOUR, "once": settings.CONCURRENT_JOBS}
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        set_quota(obj, **parameters, by=by, reason=reason)


@register
class BanUser(UserAction):
    code = "ban_user"
    label = gettext_lazy("Ban")
    is_grave = True

    def suits(self, obj: Any) -> bool:
        return bool(obj.is_active)

    def effects(self, ids: Sequence[Any]) -> list[str]:
        active = Job.objects.filter(user__in=ids).active()[:10_000].count()
        tokens = ApiToken.objects.filter(user__in=ids).active()[:10_000].count()
        return [
            _("No signing in any more; sessions end, tokens are revoked: %(tokens)d.") % {"tokens": tokens},
            _("Jobs that wait or run are cancelled: %(jobs)d. Entries stay; disqualify those apart.")
            % {"jobs": active},
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        if obj.pk == by.pk:
            raise Conflict("own_account", gettext_lazy("You cannot ban yourself."))
        cancelled = steering.ban(obj, by=by, reason=reason)
        record_action(by, self.code, [obj], reason=reason, details={"jobs": cancelled})


@register
class UnbanUser(UserAction):
    code = "unban_user"
    label = gettext_lazy("Lift the ban")

    def suits(self, obj: Any) -> bool:
        return not obj.is_active

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("They can sign in again. Tokens stay revoked: they make new ones.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        let_in(obj)
        record_action(by, self.code, [obj], reason=reason)


@register
class RevokeToken(Action):
    code = "revoke_token"
    label = gettext_lazy("Revoke")
    model = "accounts.apitoken"
    permission = "accounts.change_apitoken"
    is_grave = True

    def suits(self, obj: Any) -> bool:
        return obj.revoked_at is None

    def reaches(self, obj: Any, by: User) -> bool:
        return may_manage(by, obj.user) or obj.user_id == by.pk

    def objects(self) -> QuerySet[ApiToken]:
        return ApiToken.objects.select_related("user")

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("Programs that use them are refused from now on.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        revoke_token(obj)
        record_action(by, self.code, [obj], reason=reason)


class WorkerAction(Action):
    model = "jobs.worker"
    permission = "jobs.change_worker"

    def _in_hand(self, ids: Sequence[Any]) -> int:
        return Job.objects.filter(status=Status.RUNNING, worker__in=ids).count()


@register
class DrainWorker(WorkerAction):
    code = "drain_worker"
    label = gettext_lazy("Drain: finish the job in hand, then stop")

    def suits(self, obj: Any) -> bool:
        return obj.stopped_at is None and obj.drain_requested_at is None

    def effects(self, ids: Sequence[Any]) -> list[str]:
        longest = max(limits["wall_seconds"] for limits in settings.RESOURCE_CLASSES.values())
        return [
            _("Jobs in hand: %(jobs)d; at the longest it takes about %(time)s. What starts workers may start new ones.")
            % {"jobs": self._in_hand(ids), "time": _about(longest)}
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        steering.drain(obj)
        record_action(by, self.code, [obj], reason=reason)


@register
class StopWorker(WorkerAction):
    code = "stop_worker"
    label = gettext_lazy("Stop now: give the job in hand back")
    is_grave = True

    def suits(self, obj: Any) -> bool:
        return obj.stopped_at is None and obj.stop_requested_at is None

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [
            _("Jobs in hand: %(jobs)d; such a job waits again and starts over. It takes about %(time)s.")
            % {"jobs": self._in_hand(ids), "time": _about(settings.HEARTBEAT_SECONDS + 10)}
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        steering.stop(obj)
        record_action(by, self.code, [obj], reason=reason)


@register
class DisableWorker(WorkerAction):
    code = "disable_worker"
    label = gettext_lazy("Disable: take no more jobs")

    def suits(self, obj: Any) -> bool:
        return obj.stopped_at is None and obj.disabled_at is None

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [
            _(
                "Jobs in hand: %(jobs)d; such a job ends as it would. Then nothing is taken until it is enabled, also after a restart."
            )
            % {"jobs": self._in_hand(ids)}
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        steering.disable(obj)
        record_action(by, self.code, [obj], reason=reason)


@register
class EnableWorker(WorkerAction):
    code = "enable_worker"
    label = gettext_lazy("Enable")

    def suits(self, obj: Any) -> bool:
        return obj.disabled_at is not None

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("They take jobs again within seconds.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        steering.enable(obj)
        record_action(by, self.code, [obj], reason=reason)
