"""/api/jobs"""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.http import refuse_unknown_parameters
from accounts.refusals import Conflict, InvalidInput
from accounts.requests import SignedInApiRequest
from accounts.schema import refusals
from core.downloads import content_disposition
from jobs.board_needs import boards_with_needs
from jobs.models import Job, Status
from jobs.queries import mlflow_rest_link, mlflow_ui_link, open_artifact, progress_of, read_log, seconds_left
from jobs.runtime import as_json, class_limits, runtimes
from jobs.serializers import (
    BoardRuntime,
    JobDetail,
    JobReceipt,
    JobRequest,
    JobResults,
    JobShown,
    JobStatus,
    ProgressShown,
)
from jobs.services import cancel_job, enqueue_job
from jobs.status import status_shown
from jobs.waiting import live_workers
from jobs.withdrawing import restore_job, withdraw_job
from leaderboards.models import Leaderboard
from submissions.api import NewestFirst
from submissions.contents import refuse_deleted

_KEY = OpenApiParameter(
    "Idempotency-Key", OpenApiTypes.STR, OpenApiParameter.HEADER, description="The same key again: the same job."
)
DETAIL = ("leaderboard__score_version", "user", "disqualification", "score_version")
# Of a job's submission; no answer has them.
LARGE = ("submission__manifest", "submission__metadata")


def _record(request: SignedInApiRequest, job_id: UUID, *related: str) -> Job:
    """Return the job's record, which stays when its submission is deleted."""
    found = Job.objects.visible_to(request.user).select_related(*related, "submission").defer(*LARGE)
    return get_object_or_404(found, pk=job_id)


def _own(request: SignedInApiRequest, job_id: UUID, *related: str) -> Job:
    """Return the job with what it left. Raises Gone if its submission is deleted."""
    job = _record(request, job_id, *related)
    refuse_deleted(job.submission)
    return job


def _detail(request: SignedInApiRequest, job_id: UUID) -> Any:
    job = _record(request, job_id, *DETAIL)
    return JobDetail(job, context={"viewer": request.user}).data


class JobsView(APIView):
    pagination_class = NewestFirst

    @extend_schema(
        parameters=[_KEY],
        request=JobRequest,
        responses={202: JobReceipt, **refusals(400, 401, 403, 404, 409, 410, 413, 415, 429, 503)},
        operation_id="create_job",
    )
    def post(self, request: SignedInApiRequest) -> Response:
        """Queue a run of a submission."""
        sent = JobRequest(data=request.data)
        sent.is_valid(raise_exception=True)
        job, _ = enqueue_job(
            request.user,
            sent.validated_data["submission_id"],
            config=sent.validated_data.get("config"),
            resource_class=sent.validated_data["resource_class"],
            trial=sent.validated_data["trial"],
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
        return Response(JobReceipt(job).data, status=202)

    @extend_schema(
        parameters=[OpenApiParameter("status", OpenApiTypes.STR, enum=Status.values)],
        responses={200: JobShown(many=True), **refusals(400, 401, 503)},
        operation_id="list_jobs",
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """Your jobs, newest first."""
        refuse_unknown_parameters(request, "status", *NewestFirst.parameters)
        own = Job.objects.filter(user=request.user).select_related("leaderboard", "user", "submission")
        own = own.defer(*LARGE)
        status = request.query_params.get("status", "")
        if status and status not in Status.values:
            raise InvalidInput(
                "bad_status", _("must be one of %(known)s, not %(name)r."), field="status",
                known=", ".join(Status.values), name=status[:50],
            )  # fmt: skip
        paginator = NewestFirst()
        page = paginator.paginate_queryset(own.filter(status=status) if status else own, request, view=self)
        return paginator.get_paginated_response(JobShown(page, many=True).data)


class JobView(APIView):
    @extend_schema(responses={200: JobDetail, **refusals(401, 404, 503)}, operation_id="get_job")
    def get(self, request: SignedInApiRequest, job_id: UUID) -> Response:
        """One job with its attempts."""
        return Response(_detail(request, job_id))


class JobStatusView(APIView):
    @extend_schema(responses={200: JobStatus, **refusals(401, 404, 503)}, operation_id="get_job_status")
    def get(self, request: SignedInApiRequest, job_id: UUID) -> Response:
        """Where the job stands; while it waits, why and until when."""
        return Response(status_shown(_record(request, job_id)))


class JobLogsView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("offset", OpenApiTypes.INT, description="Byte offset; X-Next-Offset says the next.")
        ],
        responses={(200, "text/plain"): OpenApiTypes.STR, **refusals(400, 401, 404, 410, 503)},
        operation_id="get_job_logs",
    )
    def get(self, request: SignedInApiRequest, job_id: UUID) -> HttpResponse:
        """The log as text, live while it runs."""
        refuse_unknown_parameters(request, "offset")
        job = _own(request, job_id)
        text = request.query_params.get("offset", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise InvalidInput(
                "bad_offset", _("must be a number of bytes, not %(text)r."), field="offset", text=text[:20]
            )
        content, next_offset = read_log(job, int(text))
        return HttpResponse(
            content, content_type="text/plain; charset=utf-8", headers={"X-Next-Offset": str(next_offset)}
        )


class JobProgressView(APIView):
    @extend_schema(responses={200: ProgressShown, **refusals(401, 404, 410, 503)}, operation_id="get_job_progress")
    def get(self, request: SignedInApiRequest, job_id: UUID) -> Response:
        """How far the run says it is, and its curves so far; they stay after the end."""
        job = _own(request, job_id, "progress")
        progress = progress_of(job)
        return Response(
            {
                "job_id": job.id,
                "status": job.status,
                "fraction": progress.fraction if progress else None,
                "message": progress.message if progress else "",
                "reported_at": progress.updated_at if progress else None,
                "seconds_left": seconds_left(job, progress) if progress else None,
                "ignored": progress.ignored if progress else 0,
                "curves": progress.curves if progress else [],
            }
        )


class JobResultsView(APIView):
    @extend_schema(responses={200: JobResults, **refusals(401, 404, 409, 410, 503)}, operation_id="get_job_results")
    def get(self, request: SignedInApiRequest, job_id: UUID) -> Response:
        """What the run left. `run_id` and the links are null until MLflow has the run."""
        job = _own(request, job_id, "progress", "score_version")
        if not job.is_final:
            raise Conflict(
                "not_final",
                _("The job is %(status)s; its results are there when it has ended."),
                status=Status(job.status).label,
            )
        progress = progress_of(job)
        return Response(
            {
                "job_id": job.id,
                "status": job.status,
                "run_id": job.run_id or None,
                "params": job.params,
                "metrics": job.metrics,
                "score": job.score,
                "scorer": job.scorer,
                "score_version": job.score_version_number,
                "self_reported": job.self_reported,
                "curves": progress.curves if progress else [],
                "artifacts": [{key: item[key] for key in ("path", "bytes", "sha256")} for item in job.artifacts],
                "mlflow_ui_link": mlflow_ui_link(job) or None,
                "mlflow_rest_link": mlflow_rest_link(job) or None,
            }
        )


class JobArtifactView(APIView):
    @extend_schema(
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **refusals(401, 404, 410, 503)},
        operation_id="get_job_artifact",
    )
    def get(self, request: SignedInApiRequest, job_id: UUID, path: str) -> FileResponse:
        """One file that the run left."""
        job = _own(request, job_id)
        found = next((item for item in job.artifacts if item["path"] == path), None)
        if found is None:
            raise Http404
        response = FileResponse(open_artifact(found["name"]), content_type="application/octet-stream")
        response["Content-Disposition"] = content_disposition(path.rpartition("/")[2])
        return response


class JobCancelView(APIView):
    @extend_schema(
        request=None, responses={202: JobReceipt, **refusals(401, 403, 404, 409, 410, 503)}, operation_id="cancel_job"
    )
    def post(self, request: SignedInApiRequest, job_id: UUID) -> Response:
        """Cancel: a waiting job at once, a running one within seconds."""
        job = _own(request, job_id)
        job.status = cancel_job(job, by=request.user)
        return Response(JobReceipt(job).data, status=202)


class JobWithdrawView(APIView):
    @extend_schema(
        request=None, responses={200: JobDetail, **refusals(401, 403, 404, 409, 410, 503)}, operation_id="withdraw_job"
    )
    def post(self, request: SignedInApiRequest, job_id: UUID) -> Response:
        """Take your completed run off the board; your next best one counts at once."""
        withdraw_job(_own(request, job_id), by=request.user)
        return Response(_detail(request, job_id))


class JobRestoreView(APIView):
    @extend_schema(
        request=None, responses={200: JobDetail, **refusals(401, 403, 404, 409, 410, 503)}, operation_id="restore_job"
    )
    def post(self, request: SignedInApiRequest, job_id: UUID) -> Response:
        """Count a run again that you withdrew."""
        restore_job(_own(request, job_id), by=request.user)
        return Response(_detail(request, job_id))


class BoardRuntimeView(APIView):
    @extend_schema(responses={200: BoardRuntime, **refusals(401, 404, 503)}, operation_id="get_leaderboard_runtime")
    def get(self, request: SignedInApiRequest, slug: str) -> Response:
        """What runs of a leaderboard get now: Python, packages, GPUs and limits."""
        visible = Leaderboard.objects.visible_to(request.user).values("pk")
        board = get_object_or_404(boards_with_needs().filter(pk__in=visible), slug=slug)
        found = runtimes([board], live_workers())
        return Response(
            {
                "leaderboard": board.slug,
                "network": False,
                "limits": {name: class_limits(name) for name in settings.RESOURCE_CLASSES},
                "environments": [{**as_json(each), "resource_classes": each.resource_classes} for each in found],
            }
        )
