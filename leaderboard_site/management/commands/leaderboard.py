"""`manage.py leaderboard SLUG`: who stands where, in the terminal, as a file, or the leaderboard itself as YAML."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from rest_framework.utils.encoders import JSONEncoder

from accounts.commands import TaughtCommand
from accounts.refusals import RequestRefused
from jobs.runs_export import export_runs
from leaderboards.api import CsvRenderer, told
from leaderboards.export import BYTE_ORDER_MARK
from leaderboards.models import Leaderboard
from leaderboards.queries import PAGE_SIZE, Page, Ranking
from leaderboards.selection import Selection, chosen_metric
from leaderboards.yaml_file import export_leaderboard


class Command(TaughtCommand):
    help = "Print a leaderboard: each person's best job, best first. Without a slug, list the leaderboards."
    examples = """\
  manage.py leaderboard                                  the leaderboards there are
  manage.py leaderboard textures                         the first 50 as a table
  manage.py leaderboard textures --metric seconds --limit 10
  manage.py leaderboard textures --all --csv > board.csv    as the API gives it
  manage.py leaderboard textures --runs --csv > runs.csv    all its runs, with metrics, params and config
  manage.py leaderboard textures --yaml > textures.yaml     what it is and how it ranks, for create_leaderboard --from-yaml
"""

    def add_arguments(self, parser):
        parser.add_argument("slug", nargs="?", default="")
        parser.add_argument("--metric", default="", help="Order by this metric instead of the ranking one.")
        parser.add_argument("--limit", type=int, default=PAGE_SIZE, help="At most so many (%(default)s).")
        parser.add_argument("--all", action="store_true", help="Every entry.")
        parser.add_argument(
            "--runs",
            action="store_true",
            help="With --csv or --json: every run, whatever its status, the oldest first.",
        )
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--csv", action="store_true", help="As a table for programs.")
        form.add_argument("--json", action="store_true", help="As JSON.")
        form.add_argument("--yaml", action="store_true", help="The leaderboard itself, without its entries.")

    def handle(self, **options: Any) -> None:
        if not options["slug"]:
            for name in ("csv", "yaml", "all", "runs", "metric"):
                if options[name]:
                    raise CommandError(f"--{name}: of which leaderboard? `manage.py leaderboard` lists them.")
            self._list(options)
            return
        leaderboard = Leaderboard.objects.filter(slug=options["slug"]).first()
        if leaderboard is None:
            raise CommandError(f"There is no leaderboard {options['slug']!r}; `manage.py leaderboard` lists them.")
        if options["yaml"]:
            self.stdout.write(export_leaderboard(leaderboard), ending="")
            return
        if options["runs"]:
            self._runs(leaderboard, options)
            return
        if options["limit"] < 1:
            raise CommandError(f"--limit: at least 1, not {options['limit']}.")
        try:
            metric = chosen_metric(leaderboard, "metric", options["metric"]) or leaderboard.ranking_metric
        except RequestRefused as refusal:
            raise CommandError(f"--{refusal.message}") from refusal
        ranking = Ranking(Selection(leaderboard, metric))
        answer = told(ranking, Page(list(ranking.stream())) if options["all"] else ranking.page(options["limit"]))
        if options["json"]:
            self.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False, cls=JSONEncoder))
        elif options["csv"]:
            self._pieces([CsvRenderer().render(answer).decode()])
        else:
            self._table(leaderboard, answer["metric"], answer["entries"])

    def _runs(self, leaderboard: Leaderboard, options: dict[str, Any]) -> None:
        for name in ("all", "metric"):
            if options[name]:
                raise CommandError(f"--{name}: not with --runs, which prints every run.")
        if not (options["csv"] or options["json"]):
            raise CommandError("--runs: with --csv or --json; `manage.py jobs list` prints runs as a table.")
        self._pieces(export_runs(leaderboard, "csv" if options["csv"] else "json"))

    def _pieces(self, pieces: Iterable[str]) -> None:
        """Write a file. A terminal is shown no byte order mark."""
        for piece in pieces:
            self.stdout.write(piece.removeprefix(BYTE_ORDER_MARK) if self.stdout.isatty() else piece, ending="")

    def _list(self, options: dict[str, Any]) -> None:
        boards = Leaderboard.objects.order_by("slug")
        fields = ["slug", "title", "is_draft", "visibility", "takes_submissions"]
        rows = [[getattr(board, field) for field in fields] for board in boards]
        if options["json"]:
            self.write_json([dict(zip(fields, row, strict=True)) for row in rows])
        else:
            self.write_table(fields, rows)

    def _table(self, leaderboard: Leaderboard, metric: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            self.stdout.write(f"Nobody stands on {leaderboard.slug} yet.")
            return
        others = [other.name for other in leaderboard.metric_list if other.name != metric]
        heads = ["rank", "person", metric or "score", *others, "job", "submitted"]
        table = [
            [row["rank"], row["user_id"], row["value"], *(row["metrics"].get(name) for name in others),
             row["job_id"], datetime.fromisoformat(row["submitted_at"])]
            for row in rows
        ]  # fmt: skip
        self.write_table(heads, table)
