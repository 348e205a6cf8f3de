"""The lines of one output stream: the last state of those that are rewritten, and those that report something."""

import re

# Of a line in which a run says something about itself (docs/submissions.md).
LONGEST_REPORT = 4096
# More of an unfinished line is not held back.
LONGEST_HELD = 16 * 1024

_LINE_ENDS = re.compile(rb"[\r\n]")
_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# A report, or what may be meant as one: the reader knows the words.
_LIKE_REPORT = re.compile(rb"::[ \t]*[pm][a-z]{4,9}", re.IGNORECASE)


class OutputLines:
    """Holds back the unfinished line of a stream, however its bytes are cut.

    A carriage return begins a line anew: only its last state is given out, when the line ends. `\\r\\n` ends a line.
    """

    def __init__(self) -> None:
        self.held = b""
        # The line that is held has been rewritten; its beginning was given out.
        self.is_rewritten = self._is_begun = False

    def add(self, chunk: bytes) -> bytes:
        """Return the lines that `chunk` completes."""
        whole, newline, rest = (self.held + chunk).rpartition(b"\n")
        done = whole + newline
        if self._is_begun and b"\r" in (done or rest).partition(b"\n")[0].rstrip(b"\r"):
            # The beginning can't be taken back: the next state is a line of its own.
            done, self._is_begun = b"\n" + done, False
        if b"\r" in done:
            done = b"\n".join([_last_state(line.rstrip(b"\r")) for line in done.split(b"\n")])
        if newline:
            self.is_rewritten = self._is_begun = False
        if b"\r" in rest:
            self.is_rewritten = True
            text = rest.rstrip(b"\r")
            rest = _last_state(text) + rest[len(text) :][:1]
        self.held = rest
        return done + self.give_out() if len(rest) > LONGEST_HELD else done

    def give_out(self) -> bytes:
        """Return what is held of the unfinished line, which goes on after it."""
        given, self.held = self.held, b""
        self._is_begun = self._is_begun or bool(given)
        return given


def _last_state(line: bytes) -> bytes:
    return line[line.rfind(b"\r") + 1 :]


class ReportLines:
    """Picks the lines that report progress or a metric out of a stream, and those that may be meant to."""

    def __init__(self) -> None:
        self._rest = b""

    def among(self, chunk: bytes) -> bytes:
        """Return those that `chunk` completes, without blanks and escape sequences around them, each with a newline."""
        text = self._rest + chunk
        if b"::" not in text:
            end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
            self._rest = text[end : end + LONGEST_REPORT + 1]
            return b""
        *lines, rest = _LINE_ENDS.split(text)
        # One byte more than allowed is enough to know that the line is too long.
        self._rest = rest[: LONGEST_REPORT + 1]
        return b"".join([_report(line) for line in lines if b"::" in line])

    def last(self) -> bytes:
        """Return the line that the end of the output completes."""
        return self.among(b"\n")


def _report(line: bytes) -> bytes:
    cut = line[: LONGEST_REPORT + 1]
    if b"\x1b" in cut:
        cut = _ESCAPE.sub(b"", cut)
    cut = cut.strip(b" \t")
    if not _LIKE_REPORT.search(cut):
        return b""
    # A line that was cut stays too long, so that its reader refuses it.
    return (cut.ljust(LONGEST_REPORT + 1) if len(line) > LONGEST_REPORT else cut) + b"\n"
