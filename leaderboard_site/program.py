"""GET /client.pyz: the client as one file that Python runs, for machines that have nothing of this project."""

import io
import zipfile
from functools import cache
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

FOLDER = Path(__file__).parent
# Modules of the server that the client uses as well.
SHARED = [FOLDER.parent / "core" / name for name in ("__init__.py", "names.py", "sizes.py")]
MAIN = """\
import sys

if sys.version_info < (3, 9):
    sys.exit("client.pyz needs Python 3.9 or newer; this is " + sys.version.split()[0])

from leaderboard_site.client.main import main

sys.exit(main(prog="python3 client.pyz"))
"""


@cache
def program() -> bytes:
    """The same bytes each time: people may compare what they got."""
    content = io.BytesIO(b"#!/usr/bin/env python3\n")
    content.seek(0, io.SEEK_END)
    modules = [FOLDER / "__init__.py", *sorted((FOLDER / "client").rglob("*.py"))]
    parts = {path.relative_to(FOLDER.parent).as_posix(): path.read_text() for path in [*modules, *SHARED]}
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"__main__.py": MAIN, **parts}.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


@require_safe
def client(request: HttpRequest) -> HttpResponse:
    headers = {"Content-Disposition": 'attachment; filename="client.pyz"', "Cache-Control": "no-cache"}
    return HttpResponse(program(), content_type="application/zip", headers=headers)
