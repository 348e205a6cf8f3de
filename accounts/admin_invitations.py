"""Invitations in the admin: made there, shown once, withdrawn; never edited."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

from accounts.admin_base import MachineMadeAdmin, record
from accounts.models import Invitation
from accounts.refusals import RequestRefused
from accounts.signing_up import create_invitation, invitation_link, refuse_while_closed, withdraw_invitation


@admin.register(Invitation)
class InvitationAdmin(MachineMadeAdmin):
    list_display = ["note", "created_by", "created_at", "expires_at", "used_by", "used_at"]
    list_select_related = ["created_by", "used_by"]
    search_fields = ["note", "used_by__username"]
    fields = ["note"]
    actions = ["withdraw"]

    def has_add_permission(self, request):
        return admin.ModelAdmin.has_add_permission(self, request)

    def add_view(self, request, form_url="", extra_context=None):
        if not self.has_add_permission(request):
            raise PermissionDenied
        try:
            refuse_while_closed()
        except RequestRefused as refusal:
            self.message_user(request, refusal.message, messages.ERROR)
            return redirect("admin:accounts_invitation_changelist")
        return super().add_view(request, form_url, extra_context)

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
