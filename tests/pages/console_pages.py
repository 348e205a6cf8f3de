"""The console's pages that the checks and screenshots walk."""

from collections.abc import Callable
from typing import Any

from accounts.models import User
from accounts.operations import plan
from jobs.models import Worker
from leaderboards.yaml_file import export_leaderboard
from tests.pages.demo import Demo

FILE = "/admin/leaderboard-file/"


def console_pages(demo: Demo, operator: User) -> dict[str, str]:
    """Their addresses, by a name for the picture's file."""
    worker = Worker.objects.order_by("name").first()
    preview = plan("drain_worker", [worker.pk if worker else 0], by=operator)
    return {
        "status": "/admin/status/",
        "console": "/admin/",
        "console-queue": "/admin/queue/",
        "console-jobs": "/admin/jobs/job/",
        "console-job": f"/admin/jobs/job/{demo.failed.pk}/change/",
        "console-worker": f"/admin/jobs/worker/{preview.object_ids[0]}/change/",
        "console-board": f"/admin/leaderboards/leaderboard/{demo.board.pk}/change/",
        "console-preview": f"/admin/operations/{preview.pk}/",
        "console-file": FILE,
        "console-file-wrong": FILE,
        "console-file-preview": FILE,
    }


def steps(demo: Demo) -> dict[str, Callable[[Any], None]]:
    """What is done on the page that has no address of its own, by the page's name."""
    renamed = export_leaderboard(demo.board).replace("title: ", "title: Bricks, ", 1).replace("Bricks, '", "'Bricks, ")

    def preview(page: Any) -> None:
        page.fill("[name=text]", renamed)
        page.check("[name=replace]")
        page.locator(".submit-row input").click()
        page.wait_for_selector("#preview")

    def wrong(page: Any) -> None:
        page.fill("[name=text]", "a: 1")
        page.locator(".submit-row input").click()
        page.wait_for_selector(".errorlist")

    return {"console-file-preview": preview, "console-file-wrong": wrong}
