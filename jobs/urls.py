"""The pages of jobs, and the one that sends a submission in and starts its job."""

from django.urls import path

from jobs import views
from jobs.mlflow_proxy import mlflow
from jobs.pages import artifacts, compare, job, log, submissions, work

urlpatterns = [
    path("submit/", views.submit, name="submit"),
    path("submissions/", work.submissions, name="submissions"),
    path("submissions/<uuid:submission_id>/name/", submissions.rename, name="rename_submission"),
    path("submissions/<uuid:submission_id>/delete/", submissions.delete, name="delete_submission"),
    path("submissions/<uuid:submission_id>/run/", views.run_submission, name="run_submission"),
    path("jobs/", work.jobs, name="jobs"),
    path("jobs/<uuid:job_id>/", job.job, name="job"),
    path("jobs/<uuid:job_id>/state/", job.job_state, name="job_state"),
    path("jobs/<uuid:job_id>/runtime/", job.job_runtime, name="job_runtime"),
    path("jobs/<uuid:job_id>/log/", log.job_log, name="job_log"),
    path("jobs/<uuid:job_id>/log.txt", log.job_log_text, name="job_log_text"),
    path("jobs/<uuid:job_id>/curves.csv", job.job_curves, name="job_curves"),
    path("jobs/<uuid:job_id>/cancel/", job.cancel, name="cancel_job"),
    path("jobs/<uuid:job_id>/withdraw/", job.withdraw, name="withdraw_job"),
    path("jobs/<uuid:job_id>/again/", job.run_again, name="run_again"),
    path("jobs/<uuid:job_id>/artifacts/", artifacts.files, name="job_files"),
    path("jobs/<uuid:job_id>/artifacts/<path:path>", artifacts.artifact, name="artifact"),
    path("jobs/<uuid:job_id>/view/<path:path>", artifacts.view_file, name="view_file"),
    path("compare/", compare.compare, name="compare"),
    path("compare/code/", compare.compare_code, name="compare_code"),
    path("mlflow/", work.runs, name="runs"),
    # Beside its parts, which it asks for by relative addresses.
    path("mlflow/app", mlflow, {"path": ""}, name="mlflow"),
    path("mlflow/<path:path>", mlflow, name="mlflow_part"),
]
