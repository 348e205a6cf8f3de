"""How the code of two submissions differs: a unified diff of their text files, bounded in every way.

The manifests say which files there are; only those that both have, or that one has alone, are read, from the archives as
they were stored. Nothing is unpacked to a disk.
"""

import difflib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from django.core.files.storage import storages
from django.utils.translation import gettext as _

from accounts.refusals import RequestRefused, Unavailable
from core.sizes import MIB, human_bytes
from submissions.archive import ArchiveKind, ArchiveLimits, ArchiveRefused, read_files
from submissions.contents import as_text, refuse_deleted
from submissions.models import Submission
from submissions.storage import STORAGE_ERRORS

logger = logging.getLogger(__name__)

MAX_STORED_BYTES = 16 * MIB
LIMITS = ArchiveLimits(total_bytes=64 * MIB, file_bytes=32 * MIB, seconds=5)
MAX_FILE_BYTES = 128 * 1024
MAX_FILES = 100
# Of what lies between the first and the last line that differ.
MAX_FILE_LINES = 1500
# Pairs of equal lines that are looked at in all files together. An ordinary change of 1500 lines needs some thousands;
# repeated lines in another order need thousands of times as many.
MAX_STEPS = 2_000_000
SHOWN_LINES = 800
LONGEST_LINE = 240
CONTEXT_LINES = 3


class TooLargeToCompare(RequestRefused):
    """The code cannot be compared on a page; the message says why."""

    status = 413


@dataclass(frozen=True)
class FileDiff:
    """One file. `state`: changed, added, removed; `lines` are (kind, text), kind one of hunk add del same. `why` stands
    where there are no lines to show."""

    path: str
    state: str
    lines: list[tuple[str, str]]
    added: int = 0
    removed: int = 0
    why: str = ""


@dataclass(frozen=True)
class CodeDiff:
    files: list[FileDiff]
    same_count: int
    left_out: int
    is_cut: bool


def code_diff(first: Submission, second: Submission) -> CodeDiff:
    """What the second has changed of the first. Raises TooLargeToCompare, Gone, Unavailable."""
    for submission in (first, second):
        refuse_deleted(submission)
    sizes = [_sizes(submission) for submission in (first, second)]
    paths = sorted({*sizes[0], *sizes[1]})
    if first.sha256 == second.sha256 and first.root_folder == second.root_folder:
        return CodeDiff([], len(paths), 0, is_cut=False)
    wanted = paths[:MAX_FILES]
    texts = [
        _contents(submission, {path for path in wanted if 0 <= size.get(path, -1) <= MAX_FILE_BYTES})
        for submission, size in zip((first, second), sizes, strict=True)
    ]
    files, same = [], 0
    room, budget = SHOWN_LINES, Budget(MAX_STEPS)
    for path in wanted:
        old, new = (text.get(path, b"") if path in size else None for text, size in zip(texts, sizes, strict=True))
        is_read = all(path not in size or path in text for text, size in zip(texts, sizes, strict=True))
        if is_read and old == new:
            same += 1
            continue
        state = "added" if old is None else "removed" if new is None else "changed"
        if not is_read:
            files.append(FileDiff(path, state, [], why=_("too large to compare here")))
            continue
        found = _file_diff(path, state, old or b"", new or b"", max(0, room), budget)
        room -= len(found.lines)
        files.append(found)
    return CodeDiff(files, same, len(paths) - len(wanted), is_cut=room <= 0)


def _sizes(submission: Submission) -> dict[str, int]:
    """Paths, without the folder that wraps them all, and their sizes."""
    prefix = f"{submission.root_folder}/" if submission.root_folder else ""
    return {item["path"].removeprefix(prefix): item["bytes"] for item in submission.manifest}


def _contents(submission: Submission, paths: set[str]) -> dict[str, bytes]:
    if not paths:
        return {}
    if submission.size_bytes > MAX_STORED_BYTES:
        raise TooLargeToCompare(
            "too_large",
            _("Submissions of more than %(size)s are not compared here.") % {"size": human_bytes(MAX_STORED_BYTES)},
        )
    prefix = f"{submission.root_folder}/" if submission.root_folder else ""
    try:
        with storages["submissions"].open(submission.object_name) as stored:
            found = read_files(
                cast(BinaryIO, stored.file), kind=cast(ArchiveKind, submission.kind),
                paths={prefix + path for path in paths}, most_bytes=MAX_FILE_BYTES, limits=LIMITS,
            )  # fmt: skip
    except ArchiveRefused as refusal:
        raise TooLargeToCompare("too_large", _("The archive is too large to be compared here.")) from refusal
    except STORAGE_ERRORS as error:
        logger.exception("reading submission %s", submission.pk)
        raise Unavailable(
            "storage_unavailable", _("Stored files cannot be read just now. Try again in a minute.")
        ) from error
    return {path.removeprefix(prefix): content for path, content in found.items()}


class BudgetSpent(Exception):
    """Comparing would take more steps than a page may."""


@dataclass
class Budget:
    """The steps left for all files of one comparison."""

    steps: int

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise BudgetSpent


class BoundedMatcher(difflib.SequenceMatcher[str]):
    """Count difflib's inner loop before each round of it: its time grows with the cube of the lines."""

    # Set by difflib but missing from its types: the places of each line in the second text.
    b2j: dict[str, list[int]]

    def __init__(self, before: list[str], after: list[str], budget: Budget) -> None:
        super().__init__(None, before, after)
        self._lines, self._budget = before, budget
        self._equal = [len(self.b2j.get(line, ())) for line in before]

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        end = len(self._lines) if ahi is None else ahi
        self._budget.spend(end - alo + sum(self._equal[alo:end]))
        return super().find_longest_match(alo, ahi, blo, bhi)


def _file_diff(path: str, state: str, old: bytes, new: bytes, room: int, budget: Budget) -> FileDiff:
    texts = [as_text(old), as_text(new)]
    if texts[0] is None or texts[1] is None:
        return FileDiff(path, state, [], why=_("not text"))
    before, after = (text.splitlines() for text in texts if text is not None)
    before, after, offset = _trimmed(before, after)
    if max(len(before), len(after)) > MAX_FILE_LINES:
        return FileDiff(path, state, [], why=_("too large to compare here"))
    try:
        lines = list(_lines(BoundedMatcher(before, after, budget), before, after, offset))
    except BudgetSpent:
        return FileDiff(path, state, [], why=_("too large to compare here"))
    added, removed = (sum(1 for kind, _text in lines if kind == name) for name in ("add", "del"))
    if not lines:
        return FileDiff(path, state, [], why=_("only line ends differ"))
    return FileDiff(path, state, lines[:room], added, removed)


def _trimmed(before: list[str], after: list[str]) -> tuple[list[str], list[str], int]:
    """Both without what they begin and end with alike, but for some lines around; how many went from the front."""
    shortest = min(len(before), len(after))
    start = next((index for index in range(shortest) if before[index] != after[index]), shortest)
    rest = shortest - start
    end = next((index for index in range(rest) if before[-1 - index] != after[-1 - index]), rest)
    start, end = max(0, start - CONTEXT_LINES), max(0, end - CONTEXT_LINES)
    return before[start : len(before) - end], after[start : len(after) - end], start


def _lines(matcher: BoundedMatcher, before: list[str], after: list[str], offset: int) -> Iterator[tuple[str, str]]:
    """The unified diff, line by line."""
    for group in matcher.get_grouped_opcodes(CONTEXT_LINES):
        (_tag, old_start, _old, new_start, _new), (_tag, _, old_end, _, new_end) = group[0], group[-1]
        old, new = f"{offset + old_start + 1},{old_end - old_start}", f"{offset + new_start + 1},{new_end - new_start}"
        yield "hunk", f"@@ -{old} +{new} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (("same", _cut(line)) for line in before[i1:i2])
            else:
                yield from (("del", _cut(line)) for line in before[i1:i2])
                yield from (("add", _cut(line)) for line in after[j1:j2])


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"
