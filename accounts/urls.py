"""Signing in and out, and tokens."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from accounts import views

urlpatterns = [
    path("login/", views.SignInView.as_view(), name="login"),
    path("sign-up/", views.sign_up, name="sign_up"),
    path("account/profile/", views.profile, name="profile"),
    path("account/password/", views.password, name="password"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/tokens/", views.create_token, name="create_token"),
    path("account/tokens/<int:token_id>/revoke/", views.revoke_token, name="revoke_token"),
]
