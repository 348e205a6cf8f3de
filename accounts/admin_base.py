"""What the admin pages of all apps share."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.paginator import Paginator
from django.db import connection, models
from django.http import HttpRequest
from django.utils.functional import cached_property


class EstimatedPaginator(Paginator):
    """Does not count a large table for its page numbers: beyond CAP rows PostgreSQL's own estimate is shown."""

    CAP = 10_000

    @cached_property
    def count(self) -> int:  # type: ignore[override]
        capped = self.object_list.order_by()[: self.CAP].values("pk").count()
        if capped < self.CAP or self.object_list.query.where:
            return int(capped)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
                [self.object_list.model._meta.db_table],
            )
            return max(self.CAP, int(cursor.fetchone()[0]))


class MachineMadeAdmin(admin.ModelAdmin):
    """Rows that the machine writes: shown whole, never added, edited or deleted by hand."""

    show_full_result_count = False
    paginator = EstimatedPaginator
    list_per_page = 50

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        return [field.name for field in self.model._meta.fields]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


def record(request: HttpRequest, obj: models.Model, what: str) -> None:
    """Write down which operator did what to which object."""
    LogEntry.objects.log_actions(request.user.pk, [obj], CHANGE, what, single_object=True)
