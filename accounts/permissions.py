"""Rights of operators over what is not their own. Each app's `visible_to` says what everyone may see."""

from django.contrib.auth.models import AbstractUser, AnonymousUser


def sees_all_jobs(user: AbstractUser | AnonymousUser) -> bool:
    """Operators who were given that: everybody's jobs, and so MLflow's lists and searches, which hold everybody's runs."""
    return user.is_staff and user.has_perm("jobs.view_job")


def may_manage(user: AbstractUser | AnonymousUser, person: AbstractUser) -> bool:
    """Return whether the user's rights over people cover this person. Only superusers manage staff and superusers."""
    return user.is_active and (user.is_superuser or not (person.is_staff or person.is_superuser))


def may_view_people(user: AbstractUser | AnonymousUser) -> bool:
    """Return whether the user may see and search people's e-mail addresses."""
    return user.is_staff and (user.has_perm("accounts.view_user") or user.has_perm("accounts.change_user"))
