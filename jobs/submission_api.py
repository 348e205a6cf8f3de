"""What becomes of a submission and its jobs together, by the API: renaming and deleting it."""

from typing import cast
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from accounts.schema import refusals
from jobs.deleting import delete_submission
from jobs.renaming import rename_submission
from submissions import api
from submissions.models import Submission
from submissions.serializers import SubmissionChange, SubmissionDetail


class SubmissionView(api.SubmissionView):
    @extend_schema(
        request=SubmissionChange,
        responses={200: SubmissionDetail, **refusals(400, 401, 403, 404, 410, 413, 415, 503)},
        operation_id="rename_submission",
    )
    def patch(self, request: Request, submission_id: UUID) -> Response:
        """Rename a submission of yours; an empty name takes the name away."""
        visible = Submission.objects.visible_to(request.user).select_related("leaderboard")
        submission = get_object_or_404(visible, pk=submission_id)
        sent = SubmissionChange(data=request.data)
        sent.is_valid(raise_exception=True)
        rename_submission(submission, by=cast(User, request.user), name=sent.validated_data["name"])
        return Response(SubmissionDetail(submission).data)

    @extend_schema(
        request=None, responses={204: None, **refusals(401, 403, 404, 409, 410, 503)}, operation_id="delete_submission"
    )
    def delete(self, request: Request, submission_id: UUID) -> Response:
        """Delete a submission of yours with its files and all that its jobs left. It cannot be undone."""
        visible = Submission.objects.visible_to(request.user).select_related("leaderboard")
        delete_submission(get_object_or_404(visible, pk=submission_id), by=cast(User, request.user))
        return Response(status=204)
