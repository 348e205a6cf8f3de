"""What the API shows of leaderboards."""

from rest_framework import serializers

from leaderboards.models import Leaderboard, Metric


class MetricShown(serializers.ModelSerializer):
    class Meta:
        model = Metric
        fields = ["name", "label", "unit", "direction", "minimum", "maximum", "is_required"]


class LeaderboardShown(serializers.ModelSerializer):
    metrics = MetricShown(many=True)
    scorer = serializers.CharField(help_text="What measures on hidden labels; empty: runs report their own numbers.")

    class Meta:
        model = Leaderboard
        fields = [
            "slug",
            "title",
            "description",
            "rules",
            "dataset",
            "scorer",
            "opens_at",
            "closes_at",
            "takes_submissions",
            "metrics",
        ]


class EntryShown(serializers.Serializer):
    rank = serializers.IntegerField(allow_null=True, help_text="Equal values share a rank; null for a baseline.")
    user_id = serializers.CharField(source="username")
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


class EntriesShown(serializers.Serializer):
    leaderboard = serializers.CharField()
    metric = serializers.CharField()
    direction = serializers.ChoiceField(choices=Metric.Direction.values)
    as_of = serializers.DateField(allow_null=True)
    next = serializers.CharField(allow_null=True, help_text="Give it as `after` for the rows that follow.")
    entries = EntryShown(many=True)
