"""What of a leaderboard is asked for: the parameters that its page, its exports and the API have in common.

    metric      order by this metric of the board (the ranking one if left out)
    q           only people whose name has this in it
    of min max  only those whose metric `of` (the one ordered by if left out) lies between these
    column      show these metrics (repeated)
    as_of       the board as it stood at the end of this day
    after before  where a page begins or ends: a place as `Place` writes it

Everything lies in the query string, so that an address is permanent.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.refusals import InvalidInput
from core.names import plain_name
from leaderboards.models import Leaderboard, Metric

DEFAULT_COLUMNS = 8
MOST_COLUMNS = 20
LONGEST_SEARCH = 150
EARLIEST = date(2000, 1, 1)


class Place(NamedTuple):
    """Where an entry stands in the order: its value, when it was submitted, its row."""

    value: float
    submitted_at: datetime
    pk: int

    def __str__(self) -> str:
        micros = (self.submitted_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        return f"{self.value!r}~{micros}~{self.pk}"


@dataclass(frozen=True)
class Selection:
    board: Leaderboard
    metric: Metric | None
    search: str = ""
    of: Metric | None = None
    least: float | None = None
    most: float | None = None
    chosen: list[Metric] = field(default_factory=list)
    as_of: date | None = None
    after: Place | None = None
    before: Place | None = None

    @property
    def is_filtered(self) -> bool:
        """Whether some people are left out, so that ranks have gaps."""
        return bool(self.search) or self.least is not None or self.most is not None

    @property
    def is_first_page(self) -> bool:
        return self.after is None and self.before is None

    @cached_property
    def columns(self) -> list[Metric]:
        """The metrics shown, in the board's order; the one ordered by is always among them."""
        shown = self.chosen or self.board.metric_list[:DEFAULT_COLUMNS]
        wanted = {metric.pk for metric in shown} | ({self.metric.pk} if self.metric else set())
        return [metric for metric in self.board.metric_list if metric.pk in wanted]

    @cached_property
    def until(self) -> datetime | None:
        """The moment after the day of `as_of`, in the site's time zone: an address means the same to every reader."""
        if self.as_of is None:
            return None
        midnight = datetime.combine(self.as_of + timedelta(days=1), datetime.min.time())
        return timezone.make_aware(midnight, timezone.get_default_timezone())


def today() -> date:
    """The site's day, whatever zone the reader is in."""
    return timezone.localdate(timezone=timezone.get_default_timezone())


def selection(board: Leaderboard, query: QueryDict) -> Selection:
    """What the parameters ask for; InvalidInput for what cannot be."""
    metric = chosen_metric(board, "metric", query.get("metric", "")) or board.ranking_metric
    least, most = _number("min", query.get("min", "")), _number("max", query.get("max", ""))
    if least is not None and most is not None and least > most:
        raise InvalidInput("bad_range", _("must not be larger than max."), field="min")
    return Selection(
        board=board,
        metric=metric,
        search=_search(query.get("q", "")),
        of=chosen_metric(board, "of", query.get("of", "")) or metric,
        least=least,
        most=most,
        chosen=_columns(board, query.getlist("column")),
        as_of=_day(query.get("as_of", "")),
        after=_place("after", query.get("after", "")),
        before=_place("before", query.get("before", "")),
    )


def chosen_metric(board: Leaderboard, field_name: str, name: str) -> Metric | None:
    """The board's metric of that name, None for no name; InvalidInput for an unknown one."""
    if not name:
        return None
    name = plain_name(name)
    for metric in board.metric_list:
        if metric.name == name:
            return metric
    names = [metric.name for metric in board.metric_list]
    known = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    raise InvalidInput(
        "bad_metric", _("must be one of %(known)s, not %(name)r."), field=field_name, known=known, name=name[:100]
    )


def _columns(board: Leaderboard, names: Iterable[str]) -> list[Metric]:
    wanted = list(dict.fromkeys(name for name in names if name))
    if len(wanted) > MOST_COLUMNS:
        raise InvalidInput("bad_column", _("at most %(most)d at once."), field="column", most=MOST_COLUMNS)
    return [metric for name in wanted if (metric := chosen_metric(board, "column", name))]


def _search(text: str) -> str:
    text = plain_name(text.strip())
    if len(text) > LONGEST_SEARCH:
        raise InvalidInput("bad_search", _("at most %(most)d characters."), field="q", most=LONGEST_SEARCH)
    return text


def _number(field_name: str, text: str) -> float | None:
    text = text.strip()
    if not text:
        return None
    # No underscores, no "nan", no digits of other scripts, which float() all takes.
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text[:40], re.ASCII) and len(text) <= 40:
        value = float(text)
        if math.isfinite(value):
            return value
    raise InvalidInput("bad_range", _("must be a number, not %(text)r."), field=field_name, text=text[:100])


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None
    except ValueError:
        day = None
    if day is None:
        raise InvalidInput(
            "bad_as_of", _("must be a day such as 2026-11-01, not %(text)r."), field="as_of", text=text[:100]
        )
    if not EARLIEST <= day <= today():
        raise InvalidInput(
            "bad_as_of", _("must lie between %(earliest)s and today, not on %(day)s."), field="as_of",
            earliest=EARLIEST, day=day,
        )  # fmt: skip
    return day


def _place(field_name: str, text: str) -> Place | None:
    if not text:
        return None
    match = re.fullmatch(r"([^~]{1,40})~(\d{1,16})~(\d{1,18})", text, re.ASCII)
    try:
        if match is None:
            raise ValueError(text)
        value = float(match[1])
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(match[2]))
        if not math.isfinite(value):
            raise ValueError(text)
    except (ValueError, OverflowError):
        raise InvalidInput("bad_cursor", _("must be a place on this leaderboard."), field=field_name) from None
    return Place(value, moment, int(match[3]))
