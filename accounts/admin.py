from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts import admin_invitations as admin_invitations
from accounts.admin_base import MachineMadeAdmin, OperatedAdmin, people_named, person
from accounts.models import ApiToken, Operation, OperatorAction, User
from accounts.operations import ACTIONS, NAMES, in_words, kind_in_words
from accounts.permissions import may_manage
from core.names import plain_name

VERBS = {"add": _("add"), "change": _("change"), "delete": _("delete"), "view": _("view")}


def permission_in_words(permission: Permission) -> str:
    """Django keeps the names of permissions in English; these are in the reader's language."""
    verb = permission.codename.partition("_")[0]
    return f"{permission.content_type} | {VERBS.get(verb, permission.name)}"


class GivesRights(admin.ModelAdmin):
    """A form with permissions to choose from."""

    def formfield_for_manytomany(self, db_field, request=None, **kwargs):
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and field.queryset is not None and field.queryset.model is Permission:
            field.label_from_instance = permission_in_words  # type: ignore[method-assign, assignment]
        return field


@admin.register(User)
class UserAdmin(GivesRights, OperatedAdmin, DjangoUserAdmin):
    """People. Only superusers give rights away and change staff: a person who could set their password could act as them."""

    fieldsets = (*DjangoUserAdmin.fieldsets, (_("Quotas"), {"fields": ["submissions_per_hour", "concurrent_jobs"]}))  # type: ignore[misc]
    list_display = ["username", "shown_name", "email", "is_staff", "is_active", "last_login"]
    list_filter = ["is_staff", "is_active"]
    search_help_text = _("The beginning of a user's name or address, or a user's number.")
    search_fields = ["username"]
    ordering = ["username"]
    RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")

    @admin.display(description=_("Name"))
    def shown_name(self, user: User) -> str:
        return "" if user.display_name == user.username else user.display_name

    def find(self, text, by):
        by_number = [Q(pk=int(text))] if text.isascii() and text.isdigit() and len(text) < 19 else []
        by_name = [Q(username__startswith=text), Q(first_name__istartswith=plain_name(text))]
        return [*by_name, Q(email__startswith=text), *by_number]

    def get_readonly_fields(self, request, obj=None):
        # Quotas and bans have actions, which ask why; the rest is the machine's.
        own = ["last_login", "date_joined", "is_active", "submissions_per_hour", "concurrent_jobs"]
        return own if request.user.is_superuser else [*own, *self.RIGHTS]

    def has_change_permission(self, request, obj=None):
        return super().has_change_permission(request, obj) and (obj is None or may_manage(request.user, obj))

    def has_delete_permission(self, request, obj=None):
        return super().has_delete_permission(request, obj) and (obj is None or may_manage(request.user, obj))

    def get_fieldsets(self, request, obj=None):
        # Django also draws the button that resets the password for staff who may only view the user.
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name != "password"]})
            for title, options in fieldsets
        ]

    def get_object(self, request, object_id, from_field=None):
        # The row is locked from the check to the change: a form that began before a promotion must not end after it.
        person = super().get_object(request, object_id, from_field)
        if person is None or request.method != "POST" or not connection.in_atomic_block:
            return person
        return User.objects.select_for_update().filter(pk=person.pk).first()

    @transaction.atomic
    def user_change_password(self, request, id, form_url=""):
        return super().user_change_password(request, id, form_url)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(GivesRights, OperatedAdmin, DjangoGroupAdmin):
    """What a group's members may do is for superusers to say."""

    def find(self, text, by):
        return [Q(name__startswith=text)]

    def has_add_permission(self, request):
        return request.user.is_superuser

    def has_change_permission(self, request, obj=None):
        return request.user.is_superuser

    def has_delete_permission(self, request, obj=None):
        return request.user.is_superuser


@admin.register(ApiToken)
class ApiTokenAdmin(MachineMadeAdmin):
    list_display = [person, "name", "created_at", "expires_at", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["user"]
    search_help_text = _("The beginning of a user's name or address.")
    ordering = ["-created_at", "-id"]
    exclude = ["digest"]

    def find(self, text, by):
        return [Q(user__in=people_named(text, by))]

    def get_readonly_fields(self, request, obj=None):
        return ["user", "name", "created_at", "expires_at", "revoked_at"]


class ActionFilter(admin.SimpleListFilter):
    title = _("action")
    parameter_name = "action"

    def lookups(self, request, model_admin):
        return [*NAMES.items(), *((code, action.label) for code, action in ACTIONS.items())]

    def queryset(self, request, queryset):
        return queryset.filter(action=self.value()) if self.value() else queryset


@admin.register(OperatorAction)
class OperatorActionAdmin(MachineMadeAdmin):
    """Who did what, when and why."""

    list_display = ["created_at", "username", "what", "of_what", "object_name", "reason"]
    list_filter = [ActionFilter]
    search_fields = ["username"]
    search_help_text = _("An object's id or an operator's name.")
    ordering = ["-id"]

    @admin.display(description=_("action"))
    def what(self, row: OperatorAction) -> str:
        return in_words(row.action)

    @admin.display(description=_("kind"))
    def of_what(self, row: OperatorAction) -> str:
        return kind_in_words(row.kind)

    def get_fields(self, request, obj=None):
        names = [field.name for field in OperatorAction._meta.fields]
        return [{"action": "what", "kind": "of_what"}.get(name, name) for name in names]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)

    def find(self, text, by):
        kinds = OperatorAction.KINDS
        return [Q(username=text), Q(kind__in=kinds, object_id=text)]


@admin.register(Operation)
class OperationAdmin(MachineMadeAdmin):
    """Actions on many objects: planned, under way, done."""

    list_display = ["created_at", "what", person, "total", "done", "refused", "state", "finished_at"]
    list_select_related = ["user"]
    ordering = ["-created_at"]

    @admin.display(description=_("action"))
    def what(self, operation: Operation) -> str:
        return in_words(operation.action)

    def get_fields(self, request, obj=None):
        names = [field.name for field in Operation._meta.fields if field.name != "object_ids"]
        return ["what" if name == "action" else name for name in names]

    def get_readonly_fields(self, request, obj=None):
        return self.get_fields(request, obj)
