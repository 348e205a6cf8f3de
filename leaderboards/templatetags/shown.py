"""How numbers, times, people and organizers' words are shown on every page."""

import hashlib
import itertools
import json
import math
import re
from datetime import datetime
from typing import Any

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from core.sizes import human_bytes
from leaderboards.markdown import rendered
from leaderboards.moments import localized, zoned

register = template.Library()
_HUES = 8
_PARTS = re.compile(r"[^_./:-]*[_./:-]|[^_./:-]+")
# Strangers can make a list thousands of rows long.
MOST_ITEMS = 300

register.filter("markdown", rendered)
# Paths of 24 x 24 pictures, drawn as lines.
_ICONS = {
    "pending": '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3 2"/>',
    "running": '<path d="M12 3a9 9 0 1 0 9 9"/>',
    "completed": '<circle cx="12" cy="12" r="9"/><path d="m8 12.5 2.7 2.7L16 9.5"/>',
    "failed": '<circle cx="12" cy="12" r="9"/><path d="M12 7.5v5M12 16v.5"/>',
    "cancelled": '<circle cx="12" cy="12" r="9"/><path d="m9 9 6 6m0-6-6 6"/>',
    "upload": '<path d="M12 16V4m0 0L7.5 8.5M12 4l4.5 4.5M4 16v2.5A1.5 1.5 0 0 0 5.5 20h13a1.5 1.5 0 0 0 1.5-1.5V16"/>',
    "download": '<path d="M12 4v12m0 0 4.5-4.5M12 16l-4.5-4.5M4 18v.5A1.5 1.5 0 0 0 5.5 20h13a1.5 1.5 0 0 0 1.5-1.5V18"/>',
    "people": '<circle cx="9" cy="8" r="3.5"/><path d="M2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M16 4.8a3.5 3.5 0 0 1 0 6.4m2 3.2c2 .8 3.2 2.6 3.5 5.6"/>',
    "clock": '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3 2"/>',
    "again": '<path d="M20 5v5h-5M4 19v-5h5M19 10a8 8 0 0 0-14-2.5M5 14a8 8 0 0 0 14 2.5"/>',
    "out": '<path d="M14 4h6v6m0-6-9 9M19 14v4.5a1.5 1.5 0 0 1-1.5 1.5h-12A1.5 1.5 0 0 1 4 18.5v-12A1.5 1.5 0 0 1 5.5 5H10"/>',
    "up": '<path d="M12 19V5m0 0-6 6m6-6 6 6"/>',
    "down": '<path d="M12 5v14m0 0 6-6m-6 6-6-6"/>',
    "file": '<path d="M13.5 3.5H6.5A1.5 1.5 0 0 0 5 5v14a1.5 1.5 0 0 0 1.5 1.5h11A1.5 1.5 0 0 0 19 19V9zm0 0V9H19"/>',
    "board": '<path d="M4 20v-7h5v7m0 0V5h6v15m0 0v-10h5v10M2.5 20h19"/>',
    "flag": '<path d="M6 21V4m0 .5h11l-2.5 4 2.5 4H6"/>',
    "warning": '<path d="M12 4 2.8 20h18.4zM12 10v4.5M12 17v.4"/>',
    "stop": '<rect x="6.5" y="6.5" width="11" height="11" rx="1.5"/>',
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """A small picture that says nothing to screen readers: words stand beside it."""
    return mark_safe(  # noqa: S308 - constants
        f'<svg class="icon icon-{name}" viewBox="0 0 24 24" aria-hidden="true" focusable="false">{_ICONS[name]}</svg>'
    )


@register.filter
def number(value: Any) -> str:
    """A measured number at four significant digits or more, without noise: 0.9853, 12,345, 1.2e-07."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else str(value)
    if not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e9):
        return f"{value:.3e}"
    if value == int(value) and size >= 10:
        return formats.number_format(int(value), force_grouping=True)
    places = 4 if size < 10 else 3 if size < 100 else 1
    # Rounded first: number_format cuts digits off.
    return formats.number_format(f"{value:.{places}f}", places, force_grouping=size >= 1000)


@register.simple_tag
def measured(values: dict[str, Any], name: str, places: dict[str, int | None]) -> str:
    """One of a row's numbers, with the decimal places of its column (leaderboards/digits.py)."""
    value, shown = values.get(name), places.get(name)
    if value is None or shown is None:
        return number(value)
    return formats.number_format(f"{value:.{shown}f}", shown, force_grouping=abs(value) >= 1000)


@register.filter
def signed(value: Any) -> str:
    """A difference with its sign: +0.0123, −4."""
    if value is None:
        return ""
    return "±0" if value == 0 else ("+" if value > 0 else "−") + number(abs(value))


@register.filter
def plain(value: Any) -> str:
    """A param as it was written: text bare, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@register.filter
def tick(value: float) -> str:
    """A number on an axis, as short as it can be."""
    return f"{value:.4g}"


@register.filter
def duration(seconds: Any) -> str:
    """Seconds in the two largest units that say enough."""
    if seconds is None:
        return "–"
    seconds = float(seconds)
    if seconds < 10:
        return _("%(seconds)s s") % {"seconds": formats.number_format(seconds, 2 if seconds < 1 else 1)}
    whole = round(seconds)
    if whole < 60:
        return _("%(seconds)s s") % {"seconds": whole}
    if whole < 3600 and whole % 60 == 0:
        return _("%(minutes)d min") % {"minutes": whole // 60}
    if whole < 3600:
        return _("%(minutes)d min %(seconds)02d s") % {"minutes": whole // 60, "seconds": whole % 60}
    return _("%(hours)d h %(minutes)02d min") % {"hours": whole // 3600, "minutes": whole % 3600 // 60}


@register.filter
def ago(seconds: float) -> str:
    """How long something is past, in whole units: nobody reads hundredths of a heartbeat's age."""
    whole = int(seconds)
    if whole < 1:
        return _("just now")
    time = _("%(seconds)s s") % {"seconds": whole} if whole < 10 else duration(whole)
    return _("%(time)s ago") % {"time": time}


@register.filter
def size(value: Any) -> str:
    """Bytes in binary units; a dash for what is not known."""
    if value is None or value == "":
        return "–"
    return human_bytes(float(value))


@register.simple_tag
def when(moment: datetime | None) -> str:
    """How long ago (or until when), with the exact time for the pointer and for programs."""
    if moment is None:
        return "–"
    local = localized(moment)
    exact = formats.date_format(local, "DATETIME_FORMAT") + f" {local:%Z}"
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, _distance(moment))


def _distance(moment: datetime) -> str:
    """In one unit: a column of these is scanned, not read."""
    now = timezone.now()
    if abs((now - moment).total_seconds()) < 60:
        return _("just now")
    if moment < now:
        return _("%(time)s ago") % {"time": timesince(moment, now, depth=1)}
    return _("in %(time)s") % {"time": timesince(now, moment, depth=1)}


@register.simple_tag
def exactly(moment: datetime | None) -> str:
    """The time in the reader's zone, which it names."""
    if moment is None:
        return "–"
    return format_html('<time class="exact" datetime="{}">{}</time>', moment.isoformat(), zoned(moment))


@register.filter
def breakable(name: str) -> str:
    """Return the name with places to break its line: a browser breaks `mean_average` at the underscore only if told."""
    return format_html_join(mark_safe("<wbr>"), "{}", ((part,) for part in _PARTS.findall(name)))


@register.simple_tag
def avatar(name: str) -> str:
    """A letter on a colour of the name's own, beside the name."""
    hue = hashlib.sha256(name.encode()).digest()[0] % _HUES
    return format_html('<span class="avatar hue-{}" aria-hidden="true">{}</span>', hue, name[:1].upper())


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: Any) -> str:
    """This page's query string with some parameters changed; an empty value takes one away."""
    parameters = context["request"].GET.copy()
    for name, value in changes.items():
        if value in (None, ""):
            parameters.pop(name, None)
        else:
            parameters[name] = str(value)
    return f"?{parameters.urlencode()}"


@register.filter
def value_of(values: dict[Any, Any], key: Any) -> Any:
    """A dictionary's value, or None."""
    return values.get(key)


@register.filter
def first_items(values: list[Any]) -> list[Any]:
    """Return the items that a page shows; _left_out.html tells how many there are besides."""
    return values[:MOST_ITEMS]


@register.filter
def first_pairs(values: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return list(itertools.islice(values.items(), MOST_ITEMS))


@register.simple_tag
def left_out(count: int) -> int:
    return max(0, count - MOST_ITEMS)


@register.simple_tag
def labels(**words: str) -> dict[str, str]:
    """Words that are looked up once and shown in many rows."""
    return words


@register.filter
def plain_label(text: str) -> str:
    """Words as the text of a Markdown link: without what would end or change it."""
    return re.sub(r"[\\`*_\[\]<>!\r\n]", " ", text).strip()
