"""What the API shows of leaderboards."""

from rest_framework import serializers

from leaderboards.models import Leaderboard, Metric


class MetricShown(serializers.ModelSerializer):
    class Meta:
        model = Metric
        fields = ["name", "label", "unit", "direction", "minimum", "maximum"]


class LeaderboardShown(serializers.ModelSerializer):
    metrics = MetricShown(many=True)

    class Meta:
        model = Leaderboard
        fields = ["slug", "title", "description", "dataset", "opens_at", "closes_at", "takes_submissions", "metrics"]


class EntryShown(serializers.Serializer):
    rank = serializers.IntegerField(help_text="Equal values share a rank.")
    user_id = serializers.CharField(source="user.username")
    value = serializers.FloatField(help_text="Of the metric that the list is ordered by.")
    score = serializers.FloatField(help_text="Of the ranking metric.")
    metrics = serializers.DictField(child=serializers.FloatField(), source="job.metrics")
    job_id = serializers.UUIDField()
    submitted_at = serializers.DateTimeField()
    wall_seconds = serializers.FloatField(source="job.wall_seconds", allow_null=True)
    peak_memory_bytes = serializers.IntegerField(source="job.peak_memory_bytes", allow_null=True)


class EntriesShown(serializers.Serializer):
    leaderboard = serializers.CharField()
    metric = serializers.CharField()
    direction = serializers.ChoiceField(choices=Metric.Direction.values)
    entries = EntryShown(many=True)
