"""What the commands share: the options of the site, its client, and the console."""

from __future__ import annotations

import argparse
import json
import os
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

from core.names import shown
from leaderboard_site.client import language
from leaderboard_site.client.connection import Client
from leaderboard_site.client.console import Console
from leaderboard_site.client.faults import LocalFault, Wrong, reason
from leaderboard_site.client.language import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group(say("site and output"))
    address, token = os.environ.get("LEADERSBOARD_URL", ""), os.environ.get("LEADERSBOARD_TOKEN", "")
    group.add_argument("--url", default=address, help=say("The site's address, or LEADERSBOARD_URL."))
    group.add_argument("--token", default=token, help=say("Your token; better in LEADERSBOARD_TOKEN."))
    group.add_argument(
        "--lang", choices=language.LANGUAGES, help=say("Language of messages (by default that of LANG).")
    )
    group.add_argument(
        "--json", action="store_true", help=say("One JSON object at the end; all else on standard error.")
    )


class Session:
    """One call of the program."""

    def __init__(self, options: argparse.Namespace, prog: str, console: Console) -> None:
        self.options, self.prog, self.console = options, prog, console
        if not _is_address(options.url):
            sentence = say("--url: must begin with http:// or https://, not {url}; or set LEADERSBOARD_URL.")
            raise Wrong(sentence.format(url=shown(options.url)))
        if not options.token or not options.token.isprintable() or not options.token.isascii():
            sentence = say(
                "--token: missing or not a token. Make one on the site's account page, set LEADERSBOARD_TOKEN."
            )
            raise Wrong(sentence)
        self.client = Client(options.url, options.token, language.current())
        self.followed = ""  # the job that goes on if this call ends before it

    def ask(self, path: str, headers: dict[str, str] | None = None) -> Any:
        """GET; a site that is away for a while is waited for."""
        return self.client.patiently(lambda: self.client.json("GET", path, headers=headers), self.console.tell)

    def address(self, job_id: str) -> str:
        return f"{self.client.url}/jobs/{job_id}/"


def job_id(given: str) -> str:
    try:
        return str(uuid.UUID(given))
    except ValueError:
        sentence = say("{given} is no job's id: it is a UUID, as the job's page and `list` show it.")
        raise Wrong(sentence.format(given=shown(given))) from None


def submission_id(given: str) -> str:
    try:
        return str(uuid.UUID(given))
    except ValueError:
        sentence = say("--submission: {given} is no submission's id: it is a UUID, as `list --submissions` shows it.")
        raise Wrong(sentence.format(given=shown(given))) from None


def read_config(given: str | None) -> dict[str, Any]:
    """The object of `--config`: JSON, or @FILE with it."""
    if not given:
        return {}
    try:
        config = json.loads(Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given)
    except FileNotFoundError as error:
        raise Wrong(say("--config: there is no {name}.").format(name=given[1:])) from error
    except OSError as error:
        raise LocalFault(say("--config: the file cannot be read: {why}.").format(why=reason(error))) from error
    except (ValueError, RecursionError) as error:
        sentence = say("--config: must be a JSON object or @FILE with one: {why}.")
        raise Wrong(sentence.format(why=error)) from error
    if not isinstance(config, dict):
        raise Wrong(say("--config: must be a JSON object, not {given}.").format(given=shown(given)))
    return config


def _is_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
