"""The admin's own addresses, beside those of its models."""

from typing import Any

from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _


class ConsoleSite(AdminSite):
    site_header = site_title = "LeadersBoard"
    index_title = _("Operations")
    index_template = "admin/console/index.html"
    site_url = "/"

    def get_urls(self) -> list[Any]:
        # Imported here: the views need the models, which are not there yet when the admin's app is made.
        from leaderboard_site.console import leaderboard_files, views

        own: list[URLPattern] = [
            path("status/", self.admin_view(views.status), name="status"),
            path("status/part/", self.admin_view(views.status_part), name="status_part"),
            path("status/mend/", self.admin_view(views.mend), name="status_mend"),
            path("queue/", self.admin_view(views.queue_switch), name="queue_switch"),
            path("operations/plan/", self.admin_view(views.plan), name="operation_plan"),
            path("operations/<uuid:operation_id>/", self.admin_view(views.operation), name="operation"),
            path("operations/<uuid:operation_id>/part/", self.admin_view(views.operation_part), name="operation_part"),
            path("leaderboard-file/", self.admin_view(leaderboard_files.take_in), name="leaderboard_import"),
            path(
                "leaderboard-file/<int:leaderboard_id>/",
                self.admin_view(leaderboard_files.export),
                name="leaderboard_export",
            ),
            path(
                "leaderboard-file/<int:leaderboard_id>/runs.<str:kind>",
                self.admin_view(leaderboard_files.runs),
                name="leaderboard_runs",
            ),
        ]
        # Django's own sends any staff on to any object, and asks tables that the site does not have.
        own.append(
            path("r/<int:content_type_id>/<path:object_id>/", self.admin_view(self.on_site), name="view_on_site")
        )
        return own + [found for found in super().get_urls() if getattr(found, "name", "") != "view_on_site"]

    def login(self, request, extra_context=None):
        from accounts.throttle import keep_device

        return keep_device(request, super().login(request, extra_context))

    def password_change(self, request, extra_context=None):
        """Redirect to the site's own page, which counts wrong old passwords."""
        return redirect("password")

    def on_site(self, request: HttpRequest, content_type_id: int, object_id: str) -> HttpResponse:
        """To an object's page, for who may see it here."""
        from django.contrib.contenttypes.models import ContentType
        from django.contrib.contenttypes.views import shortcut

        kind = ContentType.objects.filter(pk=content_type_id).first()
        model = kind.model_class() if kind else None
        shown = self._registry.get(model) if model else None
        if shown is None or not shown.has_view_permission(request):
            raise Http404
        return shortcut(request, content_type_id, object_id)

    def index(self, request, extra_context=None):
        from accounts.models import OperatorAction

        recent = OperatorAction.objects.filter(user=request.user)[:10]
        return super().index(request, {"recent_actions": recent, **(extra_context or {})})
