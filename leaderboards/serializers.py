"""What the API shows of leaderboards."""

from rest_framework import serializers

from leaderboards.models import Leaderboard, Metric
from leaderboards.queries import Row, sees_names
from leaderboards.run_counts import MOST_RUNS


class MetricShown(serializers.ModelSerializer):
    class Meta:
        model = Metric
        fields = ["name", "label", "unit", "direction", "minimum", "maximum", "is_required"]


class LeaderboardShown(serializers.ModelSerializer):
    metrics = MetricShown(many=True)
    scorer = serializers.CharField(help_text="What measures on hidden labels; empty: runs report their own numbers.")
    score_version = serializers.IntegerField(
        source="score_version.number",
        default=None,
        allow_null=True,
        help_text="Only scores of this version rank; null where runs report their own numbers.",
    )

    writable_code = serializers.BooleanField(
        source="has_writable_code", help_text="Every run has its own copy of the code folder, which it may write to."
    )

    class Meta:
        model = Leaderboard
        fields = [
            "slug",
            "title",
            "description",
            "rules",
            "dataset",
            "scorer",
            "score_version",
            "opens_at",
            "closes_at",
            "takes_submissions",
            "writable_code",
            "metrics",
        ]


class EntryShown(serializers.Serializer):
    rank = serializers.IntegerField(allow_null=True, help_text="Equal values share a rank; null for a baseline.")
    user_id = serializers.CharField(source="username")
    display_name = serializers.CharField(help_text="What the person is called; the username where they chose nothing.")
    submission_name = serializers.SerializerMethodField(
        help_text="What the person calls the submission; null for others than them and operators."
    )
    is_baseline = serializers.BooleanField()
    value = serializers.FloatField(help_text="Of the metric that the list is ordered by.")
    score = serializers.FloatField(help_text="Of the ranking metric.")
    metrics = serializers.DictField(child=serializers.FloatField())
    job_id = serializers.UUIDField(allow_null=True, help_text="Null where retention has deleted a past entry's job.")
    submitted_at = serializers.DateTimeField()
    wall_seconds = serializers.FloatField(allow_null=True)
    peak_memory_bytes = serializers.IntegerField(allow_null=True)
    isolation = serializers.CharField(
        help_text="What kept the run apart. unsafe-local: nothing did, and the result may be made up. Empty: not known."
    )
    runs = serializers.SerializerMethodField(
        help_text=f"The person's completed runs here, trials aside; {MOST_RUNS} stands for more too. Null with `as_of`."
    )
    withdrawn = serializers.SerializerMethodField(help_text="How many of the runs the person has withdrawn.")

    def get_submission_name(self, row: Row) -> str | None:
        return row.submission_name if sees_names(self.context["viewer"], row) else None

    def get_runs(self, row: Row) -> int | None:
        counted = self.context["counted"].get(row.user_id)
        return counted.runs if counted else None

    def get_withdrawn(self, row: Row) -> int | None:
        counted = self.context["counted"].get(row.user_id)
        return counted.withdrawn if counted else None


class EntriesShown(serializers.Serializer):
    leaderboard = serializers.CharField()
    metric = serializers.CharField()
    direction = serializers.ChoiceField(choices=Metric.Direction.values)
    as_of = serializers.DateField(allow_null=True)
    next = serializers.CharField(allow_null=True, help_text="Give it as `after` for the rows that follow.")
    entries = EntryShown(many=True)


class RankingShown(serializers.Serializer):
    counts = serializers.BooleanField(help_text="Whether the board compares this run with its person's others.")
    is_on_board = serializers.BooleanField(help_text="It is its person's best run and stands there.")
    rank = serializers.IntegerField(allow_null=True, help_text="Null off the board, and for a baseline.")
    code = serializers.CharField()
    reason = serializers.CharField(help_text="In the language of the request.")
    entry_job_id = serializers.UUIDField(allow_null=True, help_text="The run that stands there, if this one counts.")
