"""What all of our commands share: help that teaches, and a frame for JSON."""

import json
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, DjangoHelpFormatter
from django.core.serializers.json import DjangoJSONEncoder


class ExamplesKept(DjangoHelpFormatter):
    """Wraps prose, and leaves what has lines of its own as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return RawDescriptionHelpFormatter._fill_text(self, text, width, indent)  # type: ignore[arg-type]
        return super()._fill_text(text, width, indent)


class TaughtCommand(BaseCommand):
    """A command with examples under its --help. Exit codes: 0 done, 1 refused or wrong, 2 wrong usage."""

    examples = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        epilog = f"examples:\n{self.examples.rstrip()}" if self.examples else None
        return super().create_parser(prog_name, subcommand, epilog=epilog, formatter_class=ExamplesKept, **kwargs)

    def write_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder))

    def write_table(self, heads: list[str], rows: list[list[Any]]) -> None:
        """Columns as wide as their longest cell; numbers stand right."""
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        is_number = [
            all(isinstance(row[index], int | float) or row[index] is None for row in rows)
            for index in range(len(heads))
        ]
        for line in [heads, *cells]:
            parts = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, is_number, strict=True)
            )
            self.stdout.write("  ".join(parts).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    # A name could carry a terminal's escape sequences.
    return "".join(char if char.isprintable() else "?" for char in text)
