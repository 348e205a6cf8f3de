"""The pages of jobs, and the one that sends a submission in and starts its job."""

from django.urls import path

from jobs import views
from jobs.mlflow_proxy import mlflow

urlpatterns = [
    path("submit/", views.submit, name="submit"),
    path("submissions/<uuid:submission_id>/run/", views.run_submission, name="run_submission"),
    path("jobs/", views.jobs, name="jobs"),
    path("jobs/<uuid:job_id>/", views.job, name="job"),
    path("jobs/<uuid:job_id>/state/", views.job_state, name="job_state"),
    path("jobs/<uuid:job_id>/log/", views.job_log, name="job_log"),
    path("jobs/<uuid:job_id>/log.txt", views.job_log_text, name="job_log_text"),
    path("jobs/<uuid:job_id>/cancel/", views.cancel, name="cancel_job"),
    path("jobs/<uuid:job_id>/again/", views.run_again, name="run_again"),
    path("jobs/<uuid:job_id>/artifacts/<path:path>", views.artifact, name="artifact"),
    path("compare/", views.compare, name="compare"),
    path("mlflow/", mlflow, {"path": ""}, name="mlflow"),
    path("mlflow/<path:path>", mlflow, name="mlflow_part"),
]
