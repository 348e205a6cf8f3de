"""Every address of the site. The API lies under /api/ and knows no cookies; all else are pages."""

from django.contrib import admin
from django.urls import include, path

from leaderboard_site import errors, health
from leaderboard_site.metrics.views import metrics
from leaderboard_site.program import client

urlpatterns = [
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("client.pyz", client, name="client"),
    path("metrics", metrics, name="metrics"),
    path("api/", include("leaderboard_site.api_urls")),
    path("admin/", admin.site.urls),
    path("", include("leaderboard_site.page_urls")),
]
handler400 = errors.bad_request
handler403 = errors.permission_denied
handler404 = errors.not_found
handler500 = errors.server_error
