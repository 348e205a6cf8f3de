"""The pages of submissions. Sending one in starts a job, so that page is the jobs' (jobs/urls.py)."""

from django.urls import path

from submissions import views

urlpatterns = [
    path("submissions/<uuid:submission_id>/", views.submission, name="submission"),
    path("submissions/<uuid:submission_id>/files/", views.files, name="submission_files"),
    path("submissions/<uuid:submission_id>/files/<path:path>", views.view_file, name="submission_file"),
    path("submissions/<uuid:submission_id>/archive", views.archive, name="submission_archive"),
    path("submissions/<uuid:submission_id>/config/", views.submission_config, name="submission_config"),
    path("submit/check-config/", views.check_config, name="check_config"),
]
