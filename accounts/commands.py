"""What all of our commands share: help that teaches, a frame for JSON, and words instead of a trace when a part is away."""

import json
import os
import sys
from argparse import RawDescriptionHelpFormatter
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, DjangoHelpFormatter
from django.core.serializers.json import DjangoJSONEncoder
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.utils import timezone
from redis.exceptions import RedisError

from accounts.refusals import RequestRefused

INTERRUPTED, PIPE_CLOSED = 130, 141


class ExamplesKept(DjangoHelpFormatter):
    """Wraps prose, and leaves what has lines of its own as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return RawDescriptionHelpFormatter._fill_text(self, text, width, indent)
        return super()._fill_text(text, width, indent)


class TaughtCommand(BaseCommand):
    """A command with examples under its --help. Exit codes: 0 done, 1 refused or wrong, 2 wrong usage, 130 Ctrl-C."""

    examples = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        epilog = f"examples:\n{self.examples.rstrip()}" if self.examples else None
        return super().create_parser(prog_name, subcommand, epilog=epilog, formatter_class=ExamplesKept, **kwargs)

    def execute(self, *args: Any, **options: Any) -> Any:
        """What a part that is away does to any command is said in a sentence, with the command that tells more."""
        try:
            return super().execute(*args, **options)
        except (OperationalError, InterfaceError) as error:
            raise CommandError(
                f"The database does not answer: {_first_line(error)}. `manage.py doctor --only postgresql` says more; "
                "of an embedded site `make run` or `make services` starts it."
            ) from error
        except ProgrammingError as error:
            if "does not exist" not in str(error):
                raise
            raise CommandError(
                f"The database is not of this version: {_first_line(error)}. `manage.py migrate` brings it there."
            ) from error
        except RedisError as error:
            raise CommandError(
                f"Redis does not answer: {_first_line(error)}. `manage.py doctor --only redis` says more."
            ) from error
        except RequestRefused as refusal:
            raise CommandError(refusal.message) from refusal
        except BrokenPipeError:
            # Whoever read it has enough (`| head`); Python's own flush at the end must not complain of it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(PIPE_CLOSED)
        except KeyboardInterrupt:
            self.stderr.write("Interrupted.")
            sys.exit(INTERRUPTED)

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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def shown_time(moment: datetime) -> str:
    """Return the time as commands print it: in the site's zone, which it names."""
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return shown_time(value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    # A name could carry a terminal's escape sequences.
    return "".join(char if char.isprintable() else "?" for char in text)
