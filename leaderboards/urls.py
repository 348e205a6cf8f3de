"""The pages of leaderboards."""

from django.urls import path

from leaderboards import views

urlpatterns = [path("leaderboards/<slug:slug>/", views.leaderboard, name="leaderboard")]
