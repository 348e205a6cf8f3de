"""/api/submissions"""

from datetime import datetime
from typing import cast
from uuid import UUID

from django.http import FileResponse, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.http import refuse_unknown_parameters
from accounts.refusals import InvalidInput
from accounts.requests import SignedInApiRequest
from accounts.schema import refusals
from core.downloads import content_disposition
from submissions.contents import read_file, refuse_deleted
from submissions.models import Submission
from submissions.serializers import SubmissionDetail, SubmissionReceipt, SubmissionUpload
from submissions.services import create_submission
from submissions.uploads import UploadParser, refuse_bad_length
from submissions.views import archive_response


class NewestFirst(CursorPagination):
    ordering = ("-created_at", "-id")
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    parameters = ("cursor", "limit")

    def decode_cursor(self, request):
        try:
            cursor = super().decode_cursor(request)
            # DRF would pass a position that is no time on to the database.
            is_time = not (cursor and cursor.position) or bool(datetime.fromisoformat(str(cursor.position)).tzinfo)
        except (NotFound, ValueError):
            is_time = False
        if not is_time:
            raise InvalidInput("bad_cursor", _("take it from `next` or `previous` of a page."), field="cursor")
        return cursor


class SubmissionsView(APIView):
    parser_classes = [UploadParser]
    pagination_class = NewestFirst

    @extend_schema(
        request={"multipart/form-data": SubmissionUpload},
        responses={201: SubmissionReceipt, **refusals(400, 401, 403, 404, 409, 411, 413, 415, 429, 503)},
        operation_id="create_submission",
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """Upload code: one or more files, or one archive (.zip, .tar.gz), 100 MiB in all."""
        refuse_bad_length(request)  # DRF takes a body of unknown length for an empty one
        data = cast(QueryDict, request.data)
        submission = create_submission(
            request.user,
            files=request.FILES.getlist("files"),
            name=data.get("name") or "",
            entrypoint=data.get("entrypoint") or "main.py",
            config_file=data.get("config_file") or "config.yaml",
            metadata=data.get("metadata"),
            leaderboard=data.get("leaderboard") or "",
            paths=data.get("paths"),
            writable_code=data.get("writable_code"),
        )
        return Response(SubmissionReceipt(submission).data, status=201)

    @extend_schema(
        responses={200: SubmissionReceipt(many=True), **refusals(400, 401, 503)}, operation_id="list_submissions"
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """Your submissions, newest first."""
        refuse_unknown_parameters(request, *NewestFirst.parameters)
        own = Submission.objects.filter(user=request.user, deleted_at=None).select_related("leaderboard")
        paginator = NewestFirst()
        page = paginator.paginate_queryset(own, request, view=self)
        return paginator.get_paginated_response(SubmissionReceipt(page, many=True).data)


def _visible(request: SignedInApiRequest, submission_id: UUID) -> Submission:
    """Return the submission; 404 for whoever may not see it, 410 if its owner has deleted it."""
    visible = Submission.objects.visible_to(request.user).select_related("leaderboard")
    found = get_object_or_404(visible, pk=submission_id)
    refuse_deleted(found)
    return found


class SubmissionView(APIView):
    @extend_schema(responses={200: SubmissionDetail, **refusals(401, 404, 410, 503)}, operation_id="get_submission")
    def get(self, request: SignedInApiRequest, submission_id: UUID) -> Response:
        """One submission with its files."""
        return Response(SubmissionDetail(_visible(request, submission_id)).data)


class SubmissionArchiveView(APIView):
    @extend_schema(
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **refusals(401, 404, 410, 503)},
        operation_id="get_submission_archive",
    )
    def get(self, request: SignedInApiRequest, submission_id: UUID) -> FileResponse:
        """The archive as it is stored; single files are packed into a tar."""
        return archive_response(_visible(request, submission_id))


class SubmissionFileView(APIView):
    @extend_schema(
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **refusals(401, 404, 410, 413, 503)},
        operation_id="get_submission_file",
    )
    def get(self, request: SignedInApiRequest, submission_id: UUID, path: str) -> HttpResponse:
        """One file of a submission."""
        content = read_file(_visible(request, submission_id), path)
        headers = {"Content-Disposition": content_disposition(path.rpartition("/")[2])}
        return HttpResponse(content, content_type="application/octet-stream", headers=headers)
