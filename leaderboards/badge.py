"""A badge to embed: a board's leader, or where one person stands, as a small SVG without script or style."""

import unicodedata
from xml.sax.saxutils import escape, quoteattr

from leaderboards.models import Leaderboard
from leaderboards.queries import Ranking
from leaderboards.selection import Selection
from leaderboards.templatetags.shown import number

LONGEST_LABEL, LONGEST_NAME, LONGEST_TEXT = 40, 30, 80
_PADDING, _HEIGHT = 7, 20
# Widths of Verdana at 11 pixels, which badges are set in; the text is stretched to them where the font is another.
_NARROW, _WIDE = set("iljI.,:;'|!()[]{}/ frt-"), set("mwMWQ@%&—…")


def text_width(text: str) -> float:
    """About how many pixels a text takes: East Asian characters are as wide as they are high."""
    width = 0.0
    for character in text:
        if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
            continue
        if unicodedata.east_asian_width(character) in "WF":
            width += 11.0
        elif character in _NARROW:
            width += 4.6
        elif character in _WIDE:
            width += 10.5
        elif character.isupper():
            width += 7.8
        else:
            width += 6.9
    return round(width, 1)


def cut(text: str, longest: int) -> str:
    # Control characters have no place in XML.
    text = "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cs", "Cn"))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def badge_text(board: Leaderboard, username: str | None) -> str | None:
    """The leader and their score, or a person's rank and score; None for a person who has no entry."""
    metric = board.ranking_metric
    if metric is None:
        return None if username else "–"
    ranking = Ranking(Selection(board, metric))
    unit = f" {metric.unit}" if metric.unit else ""
    if username is None:
        leader = next((row for row in ranking.page(len(ranking.labels) + 1).rows if not row.is_baseline), None)
        return f"{cut(leader.name, LONGEST_NAME)} · {number(leader.value)}{unit}" if leader else "–"
    found = ranking.fetch(ranking.everybody().filter(user__username=username)[:1])
    if not found:
        return None
    if not found[0].is_baseline:
        ranking.rank_each(found)
    place = f"#{found[0].rank}" if found[0].rank else cut(found[0].name, LONGEST_NAME)
    return f"{place} · {number(found[0].value)}{unit}"


def badge_svg(label: str, text: str) -> str:
    """The picture; both texts are anybody's words."""
    label, text = cut(label, LONGEST_LABEL), cut(text, LONGEST_TEXT)
    left, right = text_width(label) + 2 * _PADDING, text_width(text) + 2 * _PADDING
    total = round(left + right, 1)
    font = (
        'font-family="Verdana, DejaVu Sans, Hiragino Sans, Noto Sans JP, Noto Sans CJK JP, sans-serif" font-size="11"'
    )

    def words(content: str, start: float, width: float) -> str:
        return (
            f'<text x="{round(start + width / 2, 1)}" y="14" textLength="{round(width - 2 * _PADDING, 1)}" '
            f'lengthAdjust="spacingAndGlyphs" text-anchor="middle" direction="ltr" unicode-bidi="plaintext">'
            f"{escape(content)}</text>"
        )

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{_HEIGHT}" role="img" '
        f"aria-label={quoteattr(f'{label}: {text}')}><title>{escape(f'{label}: {text}')}</title>"
        f'<clipPath id="r"><rect width="{total}" height="{_HEIGHT}" rx="4"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="{_HEIGHT}" fill="#2b3242"/>'
        f'<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="#3450c8"/></g>'
        f'<g fill="#fff" {font}>{words(label, 0, left)}{words(text, left, right)}</g></svg>\n'
    )
