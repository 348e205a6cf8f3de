"""What the API takes and shows of submissions."""

from typing import Any

from rest_framework import serializers

from submissions.models import NAME_MAX_LENGTH, Submission


class SubmissionUpload(serializers.Serializer):
    """The fields of the multipart form; their values are checked by the service."""

    files = serializers.ListField(child=serializers.FileField(), help_text="One or more files, or one archive.")
    name = serializers.CharField(
        required=False, default="", max_length=NAME_MAX_LENGTH, help_text="What you call it; you can change it later."
    )
    entrypoint = serializers.CharField(required=False, default="main.py")
    config_file = serializers.CharField(required=False, default="config.yaml")
    metadata = serializers.CharField(required=False, default="{}", help_text="A JSON object.")
    leaderboard = serializers.CharField(required=False, default="", help_text="Its slug; the default one if left out.")
    paths = serializers.CharField(
        required=False,
        default="",
        help_text='A JSON list: the path of each file, in the order of the files: "src/a.py".',
    )
    writable_code = serializers.BooleanField(
        required=False, default=False, help_text="The run gets its own copy of the code folder, which it may write to."
    )


class SubmissionReceipt(serializers.ModelSerializer):
    submission_id = serializers.UUIDField(source="id")
    leaderboard: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(slug_field="slug", read_only=True)

    class Meta:
        model = Submission
        fields = ["submission_id", "name", "entrypoint", "config_file", "leaderboard", "sha256", "created_at"]


class SubmissionChange(serializers.Serializer):
    """What its owner may change of a submission; the service checks the value."""

    name = serializers.CharField(allow_blank=True, help_text=f"{NAME_MAX_LENGTH} characters at most; empty: no name.")


class FileEntry(serializers.Serializer):
    path = serializers.CharField()
    bytes = serializers.IntegerField()


class SubmissionDetail(SubmissionReceipt):
    files = FileEntry(source="manifest", many=True)
    metadata = serializers.DictField()
    writable_code = serializers.BooleanField(
        source="has_writable_code", help_text="Its runs get their own copy of the code folder, which they may write to."
    )

    class Meta(SubmissionReceipt.Meta):
        fields = [*SubmissionReceipt.Meta.fields, "metadata", "writable_code", "size_bytes", "files"]
