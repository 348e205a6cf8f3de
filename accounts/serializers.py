"""What the API takes and shows of people."""

from rest_framework import serializers


class LoginRequest(serializers.Serializer):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=128, trim_whitespace=False, style={"input_type": "password"})


class LoginAnswer(serializers.Serializer):
    token = serializers.CharField(help_text="Shown this once; send it as `Authorization: Bearer <token>`.")
    user_id = serializers.CharField(help_text="The username.")
    expires_at = serializers.DateTimeField()
