from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.utils.translation import gettext_lazy as _

from accounts import admin_invitations as admin_invitations
from accounts.admin_base import MachineMadeAdmin, record
from accounts.models import ApiToken, User
from accounts.services import revoke_token


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    fieldsets = (*DjangoUserAdmin.fieldsets, (_("Quotas"), {"fields": ["submissions_per_hour", "concurrent_jobs"]}))  # type: ignore[misc]
    list_display = ["username", "email", "is_staff", "is_active", "last_login"]
    show_full_result_count = False


@admin.register(ApiToken)
class ApiTokenAdmin(MachineMadeAdmin):
    list_display = ["user", "name", "created_at", "expires_at", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "name"]
    actions = ["revoke"]
    exclude = ["digest"]

    def get_readonly_fields(self, request, obj=None):
        return ["user", "name", "created_at", "expires_at", "revoked_at"]

    @admin.action(description=_("Revoke"), permissions=["change"])
    def revoke(self, request, tokens):
        for token in tokens:
            revoke_token(token)
            record(request, token, "revoked")
