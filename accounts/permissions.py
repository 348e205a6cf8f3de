"""Who may see more than their own. Each app's `visible_to` says what everybody may."""

from django.contrib.auth.models import AbstractUser, AnonymousUser


def sees_all_jobs(user: AbstractUser | AnonymousUser) -> bool:
    """Operators who were given that: everybody's jobs, and so MLflow's lists and searches, which hold everybody's runs."""
    return user.is_staff and user.has_perm("jobs.view_job")
