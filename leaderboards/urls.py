"""The pages of leaderboards."""

from django.urls import path

from leaderboards import views

urlpatterns = [
    path("leaderboards/<slug:slug>/", views.leaderboard, name="leaderboard"),
    path("leaderboards/<slug:slug>/history/", views.leaderboard_history, name="leaderboard_history"),
    path("leaderboards/<slug:slug>/badge.svg", views.leaderboard_badge, name="leaderboard_badge"),
    path("leaderboards/<slug:slug>/export.<str:kind>", views.leaderboard_export, name="leaderboard_export"),
]
