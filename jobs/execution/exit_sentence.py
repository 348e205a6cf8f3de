"""How a program ended, by its exit code or the signal that killed it."""

import signal

from jobs.execution.told import Told as _

# Those that end programs, for translation; others are named in English.
SIGNALS: dict[int, str] = {
    signal.SIGABRT: _("Aborted"),
    signal.SIGBUS: _("Bus error"),
    signal.SIGFPE: _("Floating point exception"),
    signal.SIGILL: _("Illegal instruction"),
    signal.SIGKILL: _("Killed"),
    signal.SIGPIPE: _("Broken pipe"),
    signal.SIGSEGV: _("Segmentation fault"),
    signal.SIGTERM: _("Terminated"),
}


def exit_sentence(code: int, number: int | None) -> str:
    if number is None:
        return _("exit code %(code)d", code=code)
    name = SIGNALS.get(number) or signal.strsignal(number)
    return _("killed by signal %(number)d (%(name)s), or exit code %(code)d", number=number, name=name, code=code)
