"""`make screenshots`: every page of a real site in eight looks (1280 and 390 px, light and dark, English and Japanese).

The site has servers, ports and a folder of its own, and demonstration data. Axe looks at each of the pages too: what it
finds is printed, and makes this end with 1. `index.html` beside the pictures shows them all.
"""

import argparse
import base64
import html
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leaderboard_site.embedded.locations import REPOSITORY, Locations
from leaderboard_site.embedded.servers import PostgresServer, ValkeyServer, free_port

WIDTHS, SCHEMES, LANGUAGES = (1280, 390), ("light", "dark"), ("en", "ja")
# What the documentation shows, in English, light, 1280 px wide, down to this many pixels.
PICTURES = REPOSITORY / "docs" / "images"
SHOWN = {"leaderboard": 1000, "job-running": 1000, "compare": 1180, "submit": 1080, "status": 900}
OWN = (
    "UPLOAD_ROOT", "ARTIFACT_ROOT", "WORK_ROOT", "DATASET_ROOT", "GROUND_TRUTH_ROOT", "SCORER_ROOT", "UPLOAD_TEMP_DIR",
    "MLFLOW_EXPERIMENT_PREFIX",
)  # fmt: skip


@contextmanager
def site(folder: Path):
    """PostgreSQL, Valkey and the web server on ports of their own; the site's address. This process joins it."""
    locations = Locations(folder)
    locations.make()
    servers = [PostgresServer(locations), ValkeyServer(locations)]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    for name in OWN:
        os.environ.pop(name, None)
    web = None
    try:
        for server in servers:
            server.start()
        os.environ.update(
            {**locations.environment(), "SITE_URL": url, "STATIC_MANIFEST": "0", "SIGN_UP": "open", "LOG_LEVEL": "ERROR",
             "SECRET_KEY": "for-screenshots-only-" + "0" * 40, "DJANGO_SETTINGS_MODULE": "leaderboard_site.settings"}
        )  # fmt: skip
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "leaderboard_site.wsgi", "--bind", f"127.0.0.1:{port}",
                   "--threads", "4", "--no-control-socket", "--log-level", "error"]  # fmt: skip
        web = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
        wait_for(f"{url}/healthz")
        yield url
    finally:
        if web is not None:
            os.killpg(web.pid, signal.SIGTERM)
            web.wait(60)
        for server in reversed(servers):
            server.stop()


def wait_for(url: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def cookie_of(user: Any, url: str) -> dict[str, str]:
    """A session of the user's, as the browser keeps it."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return {"name": settings.SESSION_COOKIE_NAME, "value": str(session.session_key), "url": url}


Looker = tuple[list[dict[str, str]], dict[str, str]]


def people(url: str, only: str) -> tuple[list[Looker], dict[str, Any]]:
    """Who looks at which pages: a participant, a visitor, an operator; and what is done on some of them first."""
    from accounts.tests.factories import UserFactory
    from leaderboards.models import Leaderboard
    from tests.pages import drawn_errors
    from tests.pages.console_pages import console_pages, steps
    from tests.pages.demo import Demo, make_demo, make_machines
    from tests.pages.hard import make_hard

    operator = UserFactory(username="operator", is_staff=True, is_superuser=True)
    if only.startswith("empty"):
        Leaderboard.objects.all().delete()
        lookers = {"visitor": None, "participant": UserFactory(username="hanako"), "operator": operator}
        pages = {
            "home": "/",
            "submit": "/submit/",
            "jobs": "/jobs/",
            "runs": "/mlflow/",
            "status": "/admin/status/",
            "compare": "/compare/",
        }
        seen = {
            "visitor": ["home"],
            "participant": ["home", "submit", "jobs", "runs", "compare"],
            "operator": ["home", "submit", "status", "runs"],
        }
        return [
            ([cookie_of(user, url)] if user else [], {f"empty-{name}-{who}": pages[name] for name in seen[who]})
            for who, user in lookers.items()
        ], {}
    demo = make_demo()
    make_machines()
    pages = {**demo.pages(), **(make_hard(demo.user) if only.startswith("hard") else {})}
    return [
        ([cookie_of(demo.user, url)], pages),
        ([], {**Demo.PUBLIC, **drawn_errors.PAGES}),
        ([cookie_of(operator, url)], console_pages(demo, operator)),
    ], steps(demo)


def take(url: str, folder: Path, only: str) -> dict[str, list[str]]:
    """The pictures into the folder; what axe and the scales found, by page and look."""
    from playwright.sync_api import sync_playwright

    from tests.pages.audit import accessibility, cost
    from tests.pages.conftest import launch
    from tests.pages.drawn_errors import answer_by_drawing

    found: dict[str, list[str]] = {}
    lookers, first = people(url, only)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for language in LANGUAGES:
            for cookies, pages in lookers:
                context = browser.new_context(base_url=url, locale=language, reduced_motion="reduce")
                context.add_cookies(cookies)
                answer_by_drawing(context)
                page = context.new_page()
                for name, address in pages.items():
                    if only not in name:
                        continue
                    page.goto(address)
                    if step := first.get(name):
                        step(page)
                    open_all(page)
                    found.setdefault(f"{name} {language}", []).extend(cost(page))
                    for width in WIDTHS:
                        for scheme in SCHEMES:
                            page.set_viewport_size({"width": width, "height": 900})
                            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                            page.screenshot(path=folder / f"{name}-{width}-{scheme}-{language}.png", full_page=True)
                            told = [f"{width} {scheme}: {one}" for one in accessibility(page)]
                            found[f"{name} {language}"].extend(told)
                context.close()
        browser.close()
    return {name: told for name, told in found.items() if told}


TO_WEBP = """async (png) => {
  const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/webp", quality: 0.8 })).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}"""


def picture_docs(url: str, folder: Path) -> None:
    """The pictures of the documentation, small: WebP, cut where they have said what they show."""
    from playwright.sync_api import sync_playwright

    from tests.pages.conftest import launch

    lookers, _first = people(url, "")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for cookies, pages in lookers:
            context = browser.new_context(base_url=url, locale="en", reduced_motion="reduce", color_scheme="light")
            context.add_cookies(cookies)
            page, studio = context.new_page(), context.new_page()
            for name in pages.keys() & SHOWN.keys():
                page.bring_to_front()  # nothing is observed in a tab that nobody sees
                page.set_viewport_size({"width": 1280, "height": SHOWN[name]})
                page.goto(pages[name])
                open_all(page)
                png = base64.b64encode(page.screenshot()).decode()
                (folder / f"{name}.webp").write_bytes(base64.b64decode(studio.evaluate(TO_WEBP, png)))
            context.close()
        browser.close()


def open_all(page: Any) -> None:
    """Have come what is fetched when it is scrolled into sight."""
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_load_state("networkidle")
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(200)  # what watches the scrolling has its say a frame later


def contact_sheet(folder: Path) -> Path:
    """One page with all the pictures, a row for each page of the site."""
    names = sorted({path.name.rsplit("-", 3)[0] for path in folder.glob("*.png")})
    rows = []
    for name in names:
        shots = "".join(
            f'<a href="{path.name}"><img src="{path.name}" alt="{html.escape(path.stem)}" loading="lazy" height="320"></a>'
            for path in sorted(folder.glob(f"{name}-[0-9]*.png"))
        )
        rows.append(f"<h2>{html.escape(name)}</h2><p>{shots}</p>")
    sheet = folder / "index.html"
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Screenshots</title><h1>Screenshots</h1>'
    sheet.write_text(head + "".join(rows) + "</html>", encoding="utf-8")
    return sheet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "var" / "screenshots")
    parser.add_argument(
        "--only", default="", help="Only the pages with this in their name; hard: the data that is hard on pages."
    )
    parser.add_argument("--docs", action="store_true", help="Only the pictures of the documentation, anew.")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    var = Path(tempfile.mkdtemp(prefix="lb-shots-"))
    try:
        with site(var) as url:
            if options.docs:
                picture_docs(url, PICTURES)
                return 0
            found = take(url, options.folder, options.only)
    finally:
        shutil.rmtree(var, ignore_errors=True)
    for name, told in found.items():
        print(f"{name}:", *told, sep="\n  ")
    print(contact_sheet(options.folder))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
