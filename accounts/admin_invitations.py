"""Invitations in the admin: made there, shown once, withdrawn; never edited."""

from django.contrib import admin, messages
from django.utils.translation import gettext_lazy as _

from accounts.admin_base import MachineMadeAdmin, record
from accounts.models import Invitation
from accounts.signing_up import create_invitation, invitation_link, withdraw_invitation


@admin.register(Invitation)
class InvitationAdmin(MachineMadeAdmin):
    list_display = ["note", "created_by", "created_at", "expires_at", "used_by", "used_at"]
    list_select_related = ["created_by", "used_by"]
    search_fields = ["note", "used_by__username"]
    fields = ["note"]
    actions = ["withdraw"]

    def has_add_permission(self, request):
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_fields(self, request, obj=None):
        return ["note"] if obj is None else self.list_display

    def get_readonly_fields(self, request, obj=None):
        return [] if obj is None else self.list_display

    def save_model(self, request, obj, form, change):
        made, secret = create_invitation(by=request.user, note=obj.note)
        obj.pk = made.pk
        link = invitation_link(secret)
        self.message_user(request, _("The link, shown this once: %(link)s") % {"link": link}, messages.WARNING)

    @admin.action(description=_("Withdraw"), permissions=["change"])
    def withdraw(self, request, invitations):
        for invitation in invitations:
            if withdraw_invitation(invitation):
                record(request, invitation, "withdrawn")
