"""The API's addresses."""

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from accounts import api as accounts
from jobs import api as jobs
from jobs import submission_api
from leaderboard_site.errors import not_found
from leaderboards import api as leaderboards
from submissions import api as submissions

urlpatterns = [
    path("auth/login", accounts.LoginView.as_view(), name="api-login"),
    path("auth/logout", accounts.LogoutView.as_view(), name="api-logout"),
    path("submissions", submissions.SubmissionsView.as_view(), name="api-submissions"),
    path("submissions/<uuid:submission_id>", submission_api.SubmissionView.as_view(), name="api-submission"),
    path(
        "submissions/<uuid:submission_id>/archive",
        submissions.SubmissionArchiveView.as_view(),
        name="api-submission-archive",
    ),
    path(
        "submissions/<uuid:submission_id>/files/<path:path>",
        submissions.SubmissionFileView.as_view(),
        name="api-submission-file",
    ),
    path("jobs", jobs.JobsView.as_view(), name="api-jobs"),
    path("jobs/<uuid:job_id>", jobs.JobView.as_view(), name="api-job"),
    path("jobs/<uuid:job_id>/status", jobs.JobStatusView.as_view(), name="api-job-status"),
    path("jobs/<uuid:job_id>/logs", jobs.JobLogsView.as_view(), name="api-job-logs"),
    path("jobs/<uuid:job_id>/progress", jobs.JobProgressView.as_view(), name="api-job-progress"),
    path("jobs/<uuid:job_id>/results", jobs.JobResultsView.as_view(), name="api-job-results"),
    path("jobs/<uuid:job_id>/artifacts/<path:path>", jobs.JobArtifactView.as_view(), name="api-job-artifact"),
    path("jobs/<uuid:job_id>/cancel", jobs.JobCancelView.as_view(), name="api-job-cancel"),
    path("jobs/<uuid:job_id>/withdraw", jobs.JobWithdrawView.as_view(), name="api-job-withdraw"),
    path("jobs/<uuid:job_id>/restore", jobs.JobRestoreView.as_view(), name="api-job-restore"),
    path("leaderboards", leaderboards.LeaderboardsView.as_view(), name="api-leaderboards"),
    path("leaderboards/<slug:slug>", leaderboards.LeaderboardView.as_view(), name="api-leaderboard"),
    path("leaderboards/<slug:slug>/runtime", jobs.BoardRuntimeView.as_view(), name="api-leaderboard-runtime"),
    path("leaderboards/<slug:slug>/entries", leaderboards.EntriesView.as_view(), name="api-entries"),
    path("schema", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="api-schema"), name="api-docs"),
    re_path("", not_found),
]
