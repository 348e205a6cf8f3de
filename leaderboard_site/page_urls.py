"""The pages' addresses. Who may see what is decided in each view, by `visible_to`."""

from django.urls import include, path
from django.views.i18n import set_language

from leaderboard_site import views

urlpatterns = [
    path("", views.home, name="home"),
    path("account/", views.account, name="account"),
    path("language/", set_language, name="set_language"),
    path("time-zone/", views.set_time_zone, name="set_time_zone"),
    path("", include("accounts.urls")),
    path("", include("leaderboards.urls")),
    path("", include("submissions.urls")),
    path("", include("jobs.urls")),
]
