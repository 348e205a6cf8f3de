"""Ages as people say them."""

import pytest
from django.utils import translation

from leaderboards.templatetags.shown import ago


@pytest.mark.parametrize(
    ("seconds", "english", "japanese"),
    [
        (0.0, "just now", "たった今"),
        (0.99, "just now", "たった今"),
        (1.0, "1 s ago", "1秒前"),
        (9.97, "9 s ago", "9秒前"),
        (59.9, "59 s ago", "59秒前"),
        (60, "1 min ago", "1分前"),
        (3700, "1 h 01 min ago", "1時間01分前"),
    ],
)
def test_an_age_is_told_in_whole_units(seconds, english, japanese):
    said = {}
    for language in ("en", "ja"):
        with translation.override(language):
            said[language] = ago(seconds)
    assert said == {"en": english, "ja": japanese}
