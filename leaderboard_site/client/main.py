"""Read the command line, run a command, and turn every fault into a sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from leaderboard_site.client import commands, faults, language, session
from leaderboard_site.client.console import Console, silence
from leaderboard_site.client.faults import LocalFault, NoAnswer, PipeClosed, Refused, Wrong, reason
from leaderboard_site.client.language import say
from leaderboard_site.client.session import Session

WITH_VALUE = ("--url", "--token", "--lang")


class Formatter(argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, say("usage: ") if prefix is None else prefix)


class Parser(argparse.ArgumentParser):
    """A parser whose `submit` may be left out, and that speaks the reader's language."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**{**named, "add_help": False, "formatter_class": Formatter})
        self._positionals.title, self._optionals.title = say("arguments"), say("options")
        self.add_argument("-h", "--help", action="help", help=say("Show this help."))

    def error(self, message: str) -> NoReturn:
        raise Wrong(_in_language(message))


class ProgramParser(Parser):
    """The whole program's."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_args(_with_command(list(sys.argv[1:] if args is None else args)), namespace)


def create_parser(prog: str) -> ProgramParser:
    parser = ProgramParser(
        prog=prog,
        description=say("Submit code to a LeadersBoard site and follow its run."),
        epilog=f"{examples(prog)}\n\n{_exit_codes()}",
    )
    commands_of = parser.add_subparsers(
        dest="command", metavar=say("COMMAND"), parser_class=Parser, title=say("commands")
    )
    for name in commands.NAMES:
        module = commands.load(name)
        inner = commands_of.add_parser(
            name, help=module.summary(), description=module.summary(), epilog=examples(prog, name)
        )
        module.add_arguments(inner)
        session.add_arguments(inner)
    return parser


def examples(prog: str, command: str = "") -> str:
    """Return the examples of a command; of all, without one: the first of each."""
    if command:
        rows = commands.load(command).EXAMPLES
    else:
        rows = [row for name in commands.NAMES for row in commands.load(name).EXAMPLES[: 3 if name == "submit" else 1]]
    width = max(len(line) for line, _does in rows)
    lines = [f"  {prog} {line:<{width}}   {say(does)}" for line, does in rows]
    start = ["  export LEADERSBOARD_URL=https://site.example LEADERSBOARD_TOKEN=lb_...", ""]
    return "\n".join([say("examples:"), *([] if command else start), *lines])


def _exit_codes() -> str:
    rows = [
        (faults.COMPLETED, say("completed (with --no-follow: enqueued), or done")),
        (faults.NOT_COMPLETED, say("the run ended otherwise")),
        (faults.USAGE, say("wrong usage, or a PATH that cannot be sent")),
        (faults.REFUSED, say("the site refused")),
        (faults.UNREACHABLE, say("the site did not answer")),
        (faults.THIS_MACHINE, say("a fault of this machine: an unreadable file, a full disk")),
        (faults.CLIENT_FAULT, say("a fault of this program")),
        (faults.INTERRUPTED, say("Ctrl-C; the job goes on")),
        (faults.PIPE_CLOSED, say("the reader of standard output went away; the job goes on")),
    ]
    lines = [f"  {code:>3}  {words}" for code, words in rows]
    token = say("A token is made on the site's account page.")
    return "\n".join([token, "", say("exit codes:"), *lines])


def _with_command(arguments: list[str]) -> list[str]:
    """Put the command first; `submit` where none is named."""
    place = 0
    while place < len(arguments) and (arguments[place].partition("=")[0] in WITH_VALUE or arguments[place] == "--json"):
        place += 2 if arguments[place] in WITH_VALUE else 1
    word = arguments[place] if place < len(arguments) else ""
    if word in commands.NAMES:
        return [word, *arguments[:place], *arguments[place + 1 :]]
    return arguments if arguments and word in ("-h", "--help") else [commands.DEFAULT, *arguments]


def run(arguments: Sequence[str], prog: str, out: TextIO | None, err: TextIO | None) -> int:
    """Run one command; its exit code."""
    language.use(language.choose(arguments, os.environ, getattr(out or err, "encoding", None)))
    call = _Call(prog, Console(out, err))
    try:
        return call.run(arguments)
    except KeyboardInterrupt:
        return call.interrupted()
    except PipeClosed:
        return faults.PIPE_CLOSED


class _Call:
    def __init__(self, prog: str, console: Console) -> None:
        self.prog, self.console = prog, console
        self.session: Session | None = None

    def run(self, arguments: Sequence[str]) -> int:
        tell = self.console.tell
        try:
            return self._run(arguments)
        except Wrong as wrong:
            tell(f"{self.prog}: {wrong}\n" + say("Try {prog} --help").format(prog=self.prog))
            return faults.USAGE
        except Refused as refused:
            tell(say("The site refused: {words}").format(words=refused) + _advice(refused))
            return faults.REFUSED
        except NoAnswer as error:
            url = self.session.client.url if self.session else ""
            tell(say("{url} does not answer as a LeadersBoard site: {why}. Check --url.").format(url=url, why=error))
            self._tell_how_to_go_on()
            return faults.UNREACHABLE
        except (LocalFault, OSError) as error:
            words = str(error) if isinstance(error, LocalFault) else f"{reason(error)}."
            tell(say("This machine: {words}").format(words=words))
            self._tell_how_to_go_on()
            return faults.THIS_MACHINE
        except PipeClosed:
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            sentence = say(
                "This program has a fault: {kind}: {why} ({where}). Please report it to the site's operators."
            )
            tell(sentence.format(kind=type(error).__name__, why=error, where=where))
            self._tell_how_to_go_on()
            return faults.CLIENT_FAULT

    def _run(self, arguments: Sequence[str]) -> int:
        options = create_parser(self.prog).parse_args(arguments)
        self.console.is_json = options.json
        self.session = Session(options, self.prog, self.console)
        command: Callable[[Session], int] = commands.load(options.command).run
        return command(self.session)

    def interrupted(self) -> int:
        if self.session and self.session.followed:
            self.console.tell("")
            self._tell_how_to_go_on()
        elif self.session and self.session.options.command == "submit":
            self.console.tell("\n" + say("Stopped. Nothing was enqueued."))
        else:
            self.console.tell("\n" + say("Stopped."))
        return faults.INTERRUPTED

    def _tell_how_to_go_on(self) -> None:
        if self.session and self.session.followed:
            sentence = say("The job goes on without you.\n  follow: {prog} follow {job}\n  cancel: {prog} cancel {job}")
            self.console.tell(sentence.format(prog=self.prog, job=self.session.followed))


def _advice(refused: Refused) -> str:
    advice = ""
    if refused.retry_after:
        advice += " " + say("Try again in {seconds} s.").format(seconds=f"{refused.retry_after:.0f}")
    if refused.status == 401:
        advice += " " + say("Make a new token on the account page and set LEADERSBOARD_TOKEN.")
    return advice


def _in_language(message: str) -> str:
    """Return a sentence of argparse in the reader's language, where it is one of the common ones."""
    for pattern, sentence in (
        (r"the following arguments are required: (.+)", say("{0}: is missing.")),
        (r"unrecognized arguments: (.+)", say("{0}: there is no such argument.")),
        (r"argument (\S+): expected one argument", say("{0}: needs a value.")),
        (r"argument (\S+): invalid int value: (.+)", say("{0}: must be a whole number, not {1}.")),
        (r"argument (\S+): invalid choice: (\S+) \(choose from (.+)\)", say("{0}: must be one of {2}, not {1}.")),
        (r"argument (\S+): not allowed with argument (\S+)", say("{0}: not together with {1}.")),
    ):
        if matched := re.fullmatch(pattern, message):
            return sentence.format(*matched.groups())
    return message


def main(arguments: Sequence[str] | None = None, prog: str = "") -> int:
    prog = prog or "python -m leaderboard_site.submit"
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = run(given, prog, sys.stdout, sys.stderr)
    except KeyboardInterrupt:  # a second one, while the first was answered
        code = faults.INTERRUPTED
    if code in (faults.PIPE_CLOSED, faults.THIS_MACHINE):
        silence(sys.stdout)
    return code
