"""The submit page's script writes sizes as pages do."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from core.tests.test_sizes import SIZES

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_the_script_of_the_submit_page_writes_sizes_as_pages_do(open_page):
    source = Path(settings.BASE_DIR, "static/submit.js").read_text()
    function = re.search(r"^function bytes.*?^}", source, re.MULTILINE | re.DOTALL)
    assert function is not None
    shown = open_page(None).evaluate(f"(counts) => {{ {function[0]}; return counts.map(bytes); }}", list(SIZES))
    assert shown == list(SIZES.values())
