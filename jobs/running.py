"""One claimed job from its files to its end: unpack, run under a supervisor, read what it left, write the result."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, DataError, transaction

from core.environments import is_half_made
from core.folder_digest import FolderDigests
from jobs import transitions
from jobs.execution.spec import Result, RunSpec
from jobs.execution.told import Told as _
from jobs.following import follow
from jobs.gpus import HeldGpus
from jobs.inventory import Inventory, dataset_folder
from jobs.left_out import explained, unkept
from jobs.logs import LogCleaner, LogShipper
from jobs.models import ErrorCode, Job
from jobs.progress import ProgressShipper
from jobs.pulse import DATABASE_ERRORS, Held, Pulse, forget_connection, persist
from jobs.sandbox import Images, ImageUnusable
from jobs.scoring import Rejected, ScorerBroke, Scoring, ScoringUnavailable, read_scores, scoring_spec, verified
from jobs.staging import Staging, limits_of, usual_spec
from jobs.storing import LOCKED_SECONDS, Storing
from jobs.tidying import Tidying
from jobs.transitions import Cost, Evidence, Scored
from jobs.verdict import Failure, Success, judge
from jobs.workspace import BadSubmission, StorageDown, Workspace, workspace
from leaderboards.models import Leaderboard

logger = logging.getLogger(__name__)

# Until a job is tried again whose files could not be reached, by how often that was so: over an hour in all, then it fails.
STORAGE_DELAYS = (60, 240, 600, 1200, 1800)


def nothing() -> Job | None:
    """No next job is wanted."""
    return None


class Runner:
    """Runs jobs for one worker process, one at a time, from its main thread."""

    def __init__(
        self, pulse: Pulse, *, gpus: HeldGpus | None = None, executor: str = "", inventory: Inventory | None = None
    ) -> None:
        self._pulse = pulse
        self._inventory = inventory
        self._digests = inventory.digests if inventory else FolderDigests(settings.WORK_ROOT)
        self._gpus = gpus or HeldGpus([], [])
        self._executor = executor or settings.EXECUTOR
        self._images = Images()
        self._staging = Staging(usual_spec(self._executor, self._gpus))
        self._tidying = Tidying()
        self._storing = Storing(self._is_pointless)
        self._held: Held | None = None
        self._claim = nothing
        self._next: Job | None = None
        self.is_stopping_now = False
        self.has_leftovers = False

    def prepare(self) -> None:
        """Have everything ready before the next job comes."""
        self._staging.prepare()

    def close(self) -> None:
        self._staging.close()
        self._tidying.close()
        self._storing.close()

    def stop_now(self) -> None:
        """Give the job in hand back instead of waiting for its end."""
        self.is_stopping_now = True
        # Called from a signal's handler: without the lock, which the interrupted code may hold.
        supervisor = self._held.supervisor if self._held is not None else None
        if supervisor is not None:
            supervisor.kill("released")

    def _is_pointless(self) -> bool:
        """Whether what the run left is not wanted any more: the job is given back, or another's."""
        return self.is_stopping_now or (self._held is not None and self._held.is_lost)

    def run(self, job: Job, claim: Callable[[], Job | None] = nothing) -> Job | None:
        """Run the claimed job to one of its ends. Never raises for what a job does; the job always leaves `running`,
        unless it was lost to another worker.

        The transaction that ends it asks `claim` for the next one, which is then returned: it is claimed the moment that this
        one has ended, and never are two held. None: nothing was claimed; whoever wants a job asks for it as usual.
        """
        self._claim, self._next = claim, None
        held = self._held = Held(job.pk, job.attempt, request_id=job.request_id)
        self._pulse.hold(held)
        logger.info("job %s attempt %s starts", job.pk, job.attempt)
        started = time.monotonic()
        try:
            if self._executor != "container" and is_half_made(settings.RUNNER_PYTHON):
                raise StorageDown(_("The Python environment of this worker is being changed."))
            with workspace(job, self._staging.take_folder(), self._tidying.remove) as place:
                self._run_in(place, job, held)
        except BadSubmission as refusal:
            _fail(job, ErrorCode.BAD_ARCHIVE, refusal.args[0])
        except ImageUnusable as error:
            logger.error("job %s: %s", job.pk, error)
            _give_back(job, ErrorCode.IMAGE_UNUSABLE, error.args[0], _storage_delay(job))
        except ScoringUnavailable as error:
            # Its words name the platform's folders: they are for operators.
            logger.error("job %s: %s", job.pk, error)
            if self._inventory is not None:
                self._inventory.forget(job.leaderboard)
            delay = 0 if error.was_noticed else _storage_delay(job)
            _give_back(
                job,
                ErrorCode.SCORING_UNAVAILABLE,
                error.told,
                delay,
                cause=str(error),
                is_counted=not error.cost_nothing,
            )
        except StorageDown as error:
            _give_back(job, ErrorCode.STORAGE_UNAVAILABLE, error.args[0], _storage_delay(job))
        except Exception as error:  # the worker's outermost edge: whatever broke, the job ends and the worker lives
            logger.exception("job %s attempt %s", job.pk, job.attempt)
            told = _("The platform broke while it ran this. It did not cost you quota.")
            _fail(job, ErrorCode.INTERNAL, told, cause=f"{type(error).__name__}: {error}")
        finally:
            self._pulse.hold(None)
            self._held = None
        logger.info("job %s attempt %s left after %.1f s", job.pk, job.attempt, time.monotonic() - started)
        if self._next is None:
            self._tidying.wait()
        return self._next

    def _run_in(self, place: Workspace, job: Job, held: Held) -> None:
        # It reads the score version: with the database away that must wait, not fail the job.
        scoring = persist(lambda: verified(job.leaderboard, self._digests))
        if scoring is not None:
            self._images.use(settings.SCORING_IMAGE or job.leaderboard.image)  # found out before the run, not after it
        shipper = LogShipper(place.run / "log", place.folder / "log.txt", job_id=job.pk, attempt=job.attempt)
        progress = ProgressShipper(place.run / "reports", job_id=job.pk, attempt=job.attempt)
        # It may read the job that this one repeats.
        spec = persist(lambda: self._spec(place, job))
        result = self._supervise(spec, held, shipper, progress, when_ending=lambda: _read_metrics_of(job.leaderboard))
        shipper.collect(is_last=True)
        if _was_ended_by_us(job, held, result):
            return
        progress.collect(is_last=True)
        persist(lambda: progress.ship(is_last=True))
        shipper.conclude(result.left_out)
        self._storing.begin(f"{_prefix(job)}/log.txt", shipper.cleaned)
        try:
            self._write_end(place, job, held, result, shipper, scoring, progress.notes)
        finally:
            self._storing.settle()

    def _supervise(
        self,
        spec: RunSpec,
        held: Held,
        *shippers: LogShipper | ProgressShipper,
        when_ending: Callable[[], object] = lambda: None,
    ) -> Result:
        """Start the run and follow it to its end, its log and progress going to the database meanwhile."""
        with self._staging.take(spec) as supervisor:
            supervisor.run(spec)
            held.begin(supervisor)
            self._staging.prepare()
            if self.is_stopping_now:
                supervisor.kill("released")
            try:
                result = follow(supervisor, *shippers, when_ending=when_ending)
            finally:
                held.end()
        self.has_leftovers = self.has_leftovers or result.leftovers
        return result

    def _spec(self, place: Workspace, job: Job) -> RunSpec:
        return RunSpec(
            run_id=f"{job.pk}-{job.attempt}",
            executor=self._executor,
            python=settings.RUNNER_PYTHON,
            code_dir=str(place.code),
            config_path=str(place.config),
            run_dir=str(place.run),
            entrypoint=job.submission.entrypoint,
            dataset_dir=_dataset(job.leaderboard.dataset),
            takes_predictions=job.leaderboard.is_scored,
            has_writable_code=job.has_writable_code,
            limits=limits_of(job.resource_class),
            gpus=self._gpus.minors,
            environment=self._gpus.environment(),
            sandbox_uid=settings.SANDBOX_UID,
            container=self._images.use(job.leaderboard.image),
            fence_seconds=settings.FENCE_SECONDS,
        )

    def _write_end(
        self,
        place: Workspace,
        job: Job,
        held: Held,
        result: Result,
        shipper: LogShipper,
        scoring: Scoring | None,
        notes: tuple[str, ...],
    ) -> None:
        """The log is being stored meanwhile: every write of an end waits for it."""
        cost = Cost(result.wall_seconds, result.cpu_seconds, result.peak_memory_bytes)
        log_name = f"{_prefix(job)}/log.txt"
        known = (*result.left_out, *notes)
        evidence = Evidence(
            cost, result.exit_code, log_name, shipper.size_bytes, result.isolation, result.limits_applied, notes=known
        )
        if result.reason == "cancelled":
            self._storing.wait()
            evidence = unkept(evidence, result)
            persist(lambda: transitions.finish_cancelled(job.pk, attempt=job.attempt, evidence=evidence))
            return
        # It reads the leaderboard's metrics: with the database away that must wait, not fail the job.
        verdict: Success | Failure | None = persist(
            lambda: judge(result, job.leaderboard, metrics_file=place.run / "metrics.json")
        )
        scored = Scored()
        if isinstance(verdict, Success) and scoring is not None:
            self._storing.wait()
            scored = Scored(scoring.scorer, scoring.ground_truth, verdict.metrics, job.leaderboard.score_version_id)
            verdict, evidence = self._score(place, job, held, scoring, verdict, evidence)
            if isinstance(verdict, Success):
                scored = replace(scored, detail_metrics=verdict.detail_metrics)
        if isinstance(verdict, Failure):
            code, told, cause, ended = verdict.code, verdict.message, verdict.cause, unkept(evidence, result)
            self._end(
                lambda: transitions.fail(job, attempt=job.attempt, code=code, message=told, evidence=ended, cause=cause)
            )
        elif verdict is not None:
            self._complete(place, job, result, verdict, evidence, scored)

    def _score(
        self, place: Workspace, job: Job, held: Held, scoring: Scoring, reported: Success, evidence: Evidence
    ) -> tuple[Success | Failure | None, Evidence]:
        """The scorer's verdict in place of the run's own; None when it was ended, and the job with it."""
        evidence = replace(evidence, notes=(*evidence.notes, *reported.notes))
        container = self._images.use(settings.SCORING_IMAGE or job.leaderboard.image)
        spec = scoring_spec(place, job, scoring, executor=self._executor, container=container)
        asked = time.monotonic()
        if not persist(lambda: transitions.begin_scoring(job.pk, job.attempt)):
            persist(lambda: transitions.finish_cancelled(job.pk, attempt=job.attempt, evidence=evidence))
            return None, evidence
        # As for a run: the lease counts from when the database got the statement.
        spec = replace(spec, fence_seconds=settings.FENCE_SECONDS - (time.monotonic() - asked))
        result = self._supervise(spec, held)
        if result.reason == "sandbox_error":
            raise ScoringUnavailable(f"The scorer's sandbox could not be made: {result.detail}")
        if _was_ended_by_us(job, held, result):
            return None, evidence
        scoring.check_unchanged(self._digests)
        evidence = replace(evidence, scoring_seconds=result.wall_seconds)
        if result.reason == "cancelled":
            persist(lambda: transitions.finish_cancelled(job.pk, attempt=job.attempt, evidence=evidence))
            return None, evidence
        log = place.folder / "scorer-log.txt"
        log.write_bytes(LogCleaner().clean(Path(spec.run_dir, "log").read_bytes(), is_last=True))
        verdict: Success | Failure
        try:
            measured = read_scores(result, Path(spec.run_dir, "metrics.json"), job.leaderboard)
        except Rejected as refusal:
            verdict = Failure(ErrorCode.BAD_PREDICTIONS, explained(refusal.args[0], evidence.notes))
        except ScorerBroke as error:
            error.tell_operators(job, log)
            sentence = _("The leaderboard's scorer broke. It did not cost you quota; the operators have its log.")
            verdict = Failure(ErrorCode.SCORER_FAILED, sentence, cause=str(error))
        else:
            ranking = job.leaderboard.ranking_metric
            score = measured.metrics.get(ranking.name) if ranking else None
            verdict = Success(reported.params, measured.metrics, score, measured.notes, measured.details)
        name = self._storing.store(f"{_prefix(job)}/scorer-log.txt", log)
        return verdict, replace(evidence, scorer_log_name=name)

    def _complete(
        self, place: Workspace, job: Job, result: Result, verdict: Success, evidence: Evidence, scored: Scored
    ) -> None:
        artifacts = self._storing.store_artifacts(
            f"{_prefix(job)}/artifacts", place.run / "artifacts", result.artifacts
        )
        evidence = replace(evidence, notes=(*evidence.notes, *verdict.notes))
        try:
            won = self._end(
                lambda: transitions.complete(
                    job,
                    attempt=job.attempt,
                    params=verdict.params,
                    metrics=verdict.metrics,
                    score=verdict.score,
                    artifacts=artifacts,
                    evidence=evidence,
                    scored=scored,
                )
            )
        except DataError as error:
            # What the metrics reader let through and PostgreSQL refuses must not come round again and again.
            logger.warning("job %s: %s", job.pk, error)
            told = _("metrics.json: holds text or numbers that cannot be stored.")
            _fail(job, ErrorCode.BAD_METRICS, told, evidence)
            return
        if not won:
            # Cancelled in the same moment, or no longer ours: the guard of the next says which.
            persist(lambda: transitions.finish_cancelled(job.pk, attempt=job.attempt, evidence=evidence))

    def _end(self, write: Callable[[], bool]) -> bool:
        """Write the end, and claim the next job in the same transaction: one commit, and at no moment two jobs in hand."""
        if self._storing.is_slow:
            self._storing.wait()
        try:
            try:
                return self._end_and_claim(write)
            except TimeoutError:
                self._storing.wait()
                return self._end_and_claim(write)
        except (DatabaseError, *DATABASE_ERRORS):
            # Whatever is wrong with the claim, the end must be written. Was it, and only the answer lost, then this finds
            # nothing to write, and the job that was claimed along with it is lost as with a worker that dies.
            logger.warning("the end of a job and the next one's claim could not be written at once", exc_info=True)
            self._storing.wait()
            return persist(write)

    def _end_and_claim(self, write: Callable[[], bool]) -> bool:
        """TimeoutError, and nothing of it stands, when the log is not stored in so short a time."""
        with transaction.atomic():
            won = write()
            following = self._claim() if won else None
            self._storing.wait(LOCKED_SECONDS)
        self._next = following
        return won


def _storage_delay(job: Job) -> int:
    """Return until when a job rests that was given back, by how often it was."""
    return STORAGE_DELAYS[min(job.releases, len(STORAGE_DELAYS) - 1)]


def _prefix(job: Job) -> str:
    """Below it, in the storage, is what this attempt leaves."""
    return f"results/{job.pk}/{job.attempt}"


def _was_ended_by_us(job: Job, held: Held, result: Result) -> bool:
    """Whether the platform ended the run, or could not begin it; the job is then another's, or waits again."""
    if held.is_lost or result.reason in ("fenced", "worker_lost"):
        logger.warning("job %s attempt %s: %s, nothing is written", job.pk, job.attempt, result.reason)
    elif result.reason == "released":
        _give_back(job, ErrorCode.INTERNAL, _("The worker was stopped."), 0)
    elif result.reason == "sandbox_error":
        logger.error("job %s: %s", job.pk, result.detail)
        told = _("The worker could not make a sandbox. The operators see why.")
        _give_back(job, ErrorCode.INTERNAL, told, settings.RETRY_DELAY_SECONDS, cause=result.detail)
    else:
        return False
    return True


def _fail(job: Job, code: ErrorCode, message: str, evidence: Evidence | None = None, *, cause: str = "") -> None:
    evidence = evidence or Evidence()
    fail = partial(transitions.fail, job, attempt=job.attempt, code=code, message=message, cause=cause)
    persist(lambda: fail(evidence=evidence))


def _give_back(
    job: Job, code: ErrorCode, reason: str, delay_seconds: float, *, cause: str = "", is_counted: bool = True
) -> None:
    give_back = partial(transitions.give_back, job, attempt=job.attempt, code=code, reason=reason, cause=cause)
    persist(lambda: give_back(delay_seconds=delay_seconds, is_counted=is_counted))


def _read_metrics_of(leaderboard: Leaderboard) -> None:
    """Ahead of the verdict, which reads them itself where the database is away just now."""
    try:
        leaderboard.read_metrics()
    except DATABASE_ERRORS:
        forget_connection()


def _dataset(name: str) -> str | None:
    """The folder of a leaderboard's dataset; StorageDown when this machine does not have it."""
    if not name:
        return None
    folder = dataset_folder(name)
    if folder is None:
        raise StorageDown(_("The dataset %(name)r is not on this machine.", name=name))
    return str(folder)
