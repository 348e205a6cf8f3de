"""What the API takes and shows of jobs."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.permissions import sees_all_jobs
from jobs.detail_metrics import published_categories
from jobs.execution.limit_table import Kind
from jobs.models import Job, JobAttempt, Status
from jobs.runtime import as_json, runtime_of
from leaderboards.ranking_state import ranking_state
from leaderboards.serializers import RankingShown

RERUNS_SHOWN = 20


class JobRequest(serializers.Serializer):
    submission_id = serializers.UUIDField()
    config = serializers.DictField(required=False, help_text="Laid over the submission's config file.")
    resource_class = serializers.CharField(required=False, default="small", max_length=32)
    trial = serializers.BooleanField(required=False, default=False, help_text="It runs, and never ranks.")


class JobReceipt(serializers.ModelSerializer):
    job_id = serializers.UUIDField(source="id")

    class Meta:
        model = Job
        fields = ["job_id", "status", "created_at"]


class AttemptShown(serializers.ModelSerializer):
    worker_name = serializers.SerializerMethodField(help_text="For operators; empty for others.")
    detail = serializers.CharField(source="detail_in_words")

    class Meta:
        model = JobAttempt
        fields = ["number", "worker_name", "outcome", "detail", "started_at", "ended_at"]

    def get_worker_name(self, attempt: JobAttempt) -> str:
        return attempt.worker_name if sees_all_jobs(self.context["viewer"]) else ""


class JobShown(JobReceipt):
    submission_id = serializers.UUIDField()
    submission_name = serializers.CharField(source="submission.name", help_text="Empty: it has none.")
    submission_deleted_at = serializers.DateTimeField(
        source="submission.deleted_at",
        allow_null=True,
        help_text="When its owner deleted the submission, and with it what this job left.",
    )
    user_id = serializers.CharField(source="user.username")
    leaderboard: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    run_id = serializers.CharField(allow_null=True)
    error_message = serializers.CharField(source="error_in_words", help_text="In the language of the request.")
    rerun_of = serializers.UUIDField(source="rerun_of_id", allow_null=True, help_text="The job that it runs again.")
    started_by_operator = serializers.BooleanField(source="is_by_operator", help_text="Only operators can cancel it.")
    operator_reason = serializers.CharField(help_text="Why the operator started it.")

    class Meta(JobReceipt.Meta):
        fields = [
            *[
                "job_id",
                "submission_id",
                "submission_name",
                "user_id",
                "leaderboard",
                "status",
                "resource_class",
                "attempt",
                "created_at",
            ],
            *[
                "updated_at",
                "started_at",
                "finished_at",
                "score",
                "error_code",
                "error_message",
                "exit_code",
                "wall_seconds",
            ],
            *["cpu_seconds", "peak_memory_bytes", "isolation", "run_id", "trial", "withdrawn_at"],
            *["rerun_of", "started_by_operator", "operator_reason", "submission_deleted_at", "costs_quota"],
        ]

    def to_representation(self, instance: Job) -> dict[str, Any]:
        return {**super().to_representation(instance), "run_id": instance.run_id or None}


class LimitShown(serializers.Serializer):
    limit = serializers.CharField(source="name")
    kind = serializers.ChoiceField(
        choices=[kind.value for kind in Kind],
        help_text="enforced: the kernel refuses more; watched: a process looks and ends the run; absent: nothing does.",
    )
    by = serializers.CharField()


class GpuShown(serializers.Serializer):
    name = serializers.CharField()
    memory_bytes = serializers.IntegerField(allow_null=True)


class EnvironmentShown(serializers.Serializer):
    python = serializers.CharField(allow_null=True, help_text="Null where no worker recorded it.")
    packages = serializers.DictField(child=serializers.CharField(), allow_null=True, help_text="Name: version.")
    gpus = GpuShown(many=True, help_text="Empty: none.")


class BoardEnvironment(EnvironmentShown):
    resource_classes = serializers.ListField(child=serializers.CharField())


class BoardRuntime(serializers.Serializer):
    leaderboard = serializers.CharField()
    network = serializers.BooleanField()
    limits = serializers.DictField(child=serializers.DictField(), help_text="By resource class.")
    environments = BoardEnvironment(many=True, help_text="Of the live workers that can run it; several: they differ.")


class JobRuntime(EnvironmentShown):
    limits = serializers.DictField()


class JobDetail(JobShown):
    runtime = serializers.SerializerMethodField(
        help_text="What the latest attempt got; null before the first, and for jobs of earlier versions."
    )
    config = serializers.DictField()
    writable_code = serializers.BooleanField(
        source="has_writable_code", help_text="Its run has its own copy of the code folder, which it may write to."
    )
    limits = LimitShown(many=True, source="held_limits", help_text="What held each limit of an ended run.")
    attempts = AttemptShown(many=True)
    scorer = serializers.CharField(help_text="Whose numbers the metrics are: a scorer's; empty: the run's own.")
    score_version = serializers.IntegerField(
        source="score_version_number",
        allow_null=True,
        help_text="Only scores of the leaderboard's own score version rank; null where the numbers are the run's own.",
    )
    scoring_started_at = serializers.DateTimeField(
        allow_null=True, help_text="When the run was over and its scoring began."
    )
    scoring_seconds = serializers.FloatField(allow_null=True)
    notes = serializers.ListField(
        child=serializers.CharField(),
        source="notes_in_words",
        help_text="What was left out or changed when the result was taken over: sentences in the language of the request.",
    )
    reruns = serializers.SerializerMethodField(help_text="The latest 20 jobs that run this one again.")
    categories = serializers.SerializerMethodField(
        help_text="What the scorer measured for each category, rounded; null unless the leaderboard publishes it."
    )
    disqualified = serializers.SerializerMethodField(help_text="Why operators disqualified it; null if they did not.")
    ranking = serializers.SerializerMethodField(
        help_text="Why the job is or is not on the board; null until it completed."
    )

    class Meta(JobShown.Meta):
        fields = [
            *JobShown.Meta.fields,
            "config",
            "writable_code",
            "limits",
            "attempts",
            "runtime",
            "scorer",
            "score_version",
            "scoring_started_at",
            "scoring_seconds",
            "notes",
            "categories",
            "disqualified",
            "reruns",
            "ranking",
        ]

    @extend_schema_field(JobRuntime(allow_null=True))
    def get_runtime(self, job: Job) -> dict[str, Any] | None:
        found = runtime_of(job)
        if found is None or not (found.is_recorded or found.limits):
            return None
        return {**as_json(found), "limits": found.limits}

    def get_reruns(self, job: Job) -> list[UUID]:
        return list(job.reruns.newest_first().values_list("pk", flat=True)[:RERUNS_SHOWN])

    def get_categories(self, job: Job) -> dict[str, dict[str, float]] | None:
        return published_categories(job)

    def get_disqualified(self, job: Job) -> str | None:
        found = getattr(job, "disqualification", None)
        return found.reason if found else None

    @extend_schema_field(RankingShown(allow_null=True))
    def get_ranking(self, job: Job) -> dict[str, Any] | None:
        if job.status != Status.COMPLETED:
            return None
        return RankingShown(ranking_state(job, self.context["viewer"])).data


class WaitingShown(serializers.Serializer):
    position = serializers.IntegerField(allow_null=True, help_text="1 is next.")
    reason = serializers.CharField()
    expected_start = serializers.DateTimeField(allow_null=True)


class JobStatus(serializers.Serializer):
    job_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=Status.values)
    run_id = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    error_code = serializers.CharField(required=False)
    error_message = serializers.CharField(required=False)
    cancel_requested_at = serializers.DateTimeField(required=False)
    scoring_started_at = serializers.DateTimeField(
        required=False, help_text="Only while it runs: the submission has ended, the scorer is at work."
    )
    waiting = WaitingShown(required=False, help_text="Only while pending.")


class CurveShown(serializers.Serializer):
    name = serializers.CharField()
    points = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()), help_text="[step, value, seconds since the start]"
    )
    lowest = serializers.FloatField(required=False, help_text="Of all reported values, also of points left out.")
    highest = serializers.FloatField(required=False)


class ProgressShown(serializers.Serializer):
    job_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=Status.values)
    fraction = serializers.FloatField(allow_null=True, help_text="0 to 1; null until the run says so.")
    message = serializers.CharField()
    reported_at = serializers.DateTimeField(allow_null=True)
    seconds_left = serializers.FloatField(allow_null=True, help_text="At the pace so far; only while it runs.")
    ignored = serializers.IntegerField(help_text="Reported values that broke a rule.")
    curves = CurveShown(many=True)


class ArtifactShown(serializers.Serializer):
    path = serializers.CharField()
    bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


class JobResults(serializers.Serializer):
    job_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=Status.values)
    run_id = serializers.CharField(allow_null=True)
    params = serializers.DictField()
    metrics = serializers.DictField(child=serializers.FloatField())
    score = serializers.FloatField(allow_null=True)
    scorer = serializers.CharField(help_text="Whose numbers the metrics are: a scorer's; empty: the run's own.")
    score_version = serializers.IntegerField(allow_null=True)
    self_reported = serializers.DictField(
        child=serializers.FloatField(), help_text="The run's own metrics beside a scorer's; they never rank."
    )
    curves = CurveShown(many=True)
    artifacts = ArtifactShown(many=True)
    mlflow_ui_link = serializers.CharField(allow_null=True)
    mlflow_rest_link = serializers.CharField(allow_null=True)
