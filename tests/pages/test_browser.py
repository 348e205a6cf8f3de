"""The pages in a real Chromium: what moves by itself, what is kept, and that it all works without JavaScript."""

import re
from uuid import uuid4

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from playwright.sync_api import expect

from accounts.tests.factories import UserFactory
from jobs import claiming, transitions
from jobs.models import Job
from jobs.tests.factories import JobFactory, LogChunkFactory, WorkerFactory
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.contents import read_config_file

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
# The elements that stick out of the window, but for those inside of something that scrolls by itself.
TOO_WIDE = """() => {
  const edge = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= edge) return [];
  return [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > edge)
    .map((one) => `${one.tagName}.${one.className} ${one.getBoundingClientRect().right}`);
}"""
GOOD = {"main.py": b"print(1)", "config.yaml": b"epochs: 1\n"}


def choose(page, files):
    chosen = [{"name": name, "mimeType": "text/plain", "buffer": content} for name, content in files.items()]
    page.set_input_files("[name=files]", chosen)


def test_from_a_refused_upload_to_a_result(open_page):
    user, board = UserFactory(), LeaderboardFactory(slug="bricks")
    LeaderboardFactory(slug="own-code", has_writable_code=True)
    page = open_page(user)
    page.goto("/submit/?leaderboard=bricks")
    offer_writable_code_where_it_is_not_given(page)
    be_refused(page)
    job = be_taken(page)
    held, text = see_it_run(page, job)
    scroll_away_from_the_logs_end(page, held, text)
    see_it_complete(page, held, text)
    page.goto(board.get_absolute_url())
    expect(page.locator("tr.mine .medal")).to_have_text("1")


def offer_writable_code_where_it_is_not_given(page):
    box, note = page.locator("[name=writable_code]"), page.locator("[data-writable-given]")
    for slug, is_given in (("bricks", False), ("own-code", True), ("bricks", False)):
        page.select_option("[name=leaderboard]", slug)
        expect(box).to_be_checked(checked=is_given)
        expect(box).to_be_enabled(enabled=not is_given)
        expect(note).to_be_visible(visible=is_given)


def be_refused(page):
    """First for the files, before they are sent; then for the config, and the files stay chosen."""
    choose(page, {"evil.exe": b"MZ", "other.py": b""})
    expect(page.locator("[data-files] .bad")).to_have_count(2)
    expect(page.locator("[data-send]")).to_be_disabled()

    choose(page, GOOD)
    page.fill("[name=config]", "epochs: [")
    page.click("[data-send]")
    expect(page.locator("#id_config_error")).to_contain_text("neither JSON nor YAML")
    assert page.input_value("[name=config]") == "epochs: ["
    assert page.locator("[name=files]").evaluate("input => input.files.length") == 2


def be_taken(page):
    """With a config file that is edited before it is sent; a double click makes one job."""
    page.fill("[name=config]", "epochs: 5")
    editor = page.locator("#config-text")
    expect(editor).to_have_value("epochs: 1\n")
    editor.fill("epochs: 1\nlr: [0.1")
    expect(page.locator("[data-problem]")).to_contain_text("Line 2 is not YAML")
    editor.fill("epochs: 1\nlr: 0.1\n")
    expect(page.locator("[data-problem]")).to_be_empty()
    page.dblclick("[data-send]")
    page.wait_for_url("**/jobs/*/")
    job = Job.objects.get()
    assert read_config_file(job.submission) == "epochs: 1\nlr: 0.1\n"
    expect(page.locator("#job-state .chip")).to_have_text("pending")
    return job


def see_it_run(page, job):
    """The log comes by itself and is followed to its end."""
    worker = WorkerFactory(resource_classes=["small"])
    held = claiming.claim(job.pk, worker_id=worker.pk, worker_name=worker.name)
    text = b"".join(b"line %d\n" % number for number in range(100))
    LogChunkFactory(job=held, content=text)
    log = page.locator("#log")
    expect(log).to_contain_text("line 99")
    expect(page.locator("#job-state .chip")).to_have_text("running")
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 24
    return held, text


def scroll_away_from_the_logs_end(page, held, text):
    """What comes then moves neither the log nor the focus."""
    log = page.locator("#log")
    page.focus("#cancel")
    log.evaluate("log => { log.scrollTop = 0 }")
    expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "false")
    LogChunkFactory(job=held, offset=len(text), content=b"\x1b[31mafter\x1b[0m\n")
    expect(page.locator("#log .ansi-red")).to_have_text("after")
    assert log.evaluate("log => log.scrollTop") == 0
    assert page.evaluate("document.activeElement.id") == "cancel"


def see_it_complete(page, held, text):
    """The result comes by itself, and then the page asks for nothing more."""
    name = storages["artifacts"].save(f"pages/{uuid4()}", ContentFile(text))
    evidence = transitions.Evidence(log_name=name)
    metrics = {"image_auc": 0.99}
    transitions.complete(
        held, attempt=held.attempt, params={}, metrics=metrics, score=0.99, artifacts=[], evidence=evidence
    )
    expect(page.locator("#job-results .first")).to_contain_text("0.9900")
    expect(page.locator("#run-again")).to_be_visible()
    page.wait_for_timeout(2500)  # the log's last request may still be on its way
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.wait_for_timeout(4500)
    assert sent == []


# Drops a folder as a browser would hand it over: entries with readers that give their content in parts.
DROP = """(files) => {
  const root = { isFile: false, fullPath: "/mine", children: [] };
  for (const [path, text] of Object.entries(files)) {
    let at = root;
    const parts = path.split("/");
    for (const part of parts.slice(0, -1)) {
      const fullPath = `${at.fullPath}/${part}`;
      let next = at.children.find((child) => child.fullPath === fullPath);
      if (!next) at.children.push(next = { isFile: false, fullPath, children: [] });
      at = next;
    }
    const file = new File([text], parts.at(-1));
    at.children.push({ isFile: true, fullPath: `/mine/${path}`, file: (resolve) => resolve(file) });
  }
  const give = (entry) => Object.assign(entry, { createReader: () => {
    const rest = [...entry.children];
    return { readEntries: (resolve) => resolve(rest.splice(0, 2).map((one) => one.isFile ? one : give(one))) };
  } });
  const event = new Event("drop", { bubbles: true, cancelable: true });
  event.dataTransfer = { items: [{ webkitGetAsEntry: () => give(root) }] };
  document.querySelector("[data-drop]").dispatchEvent(event);
}"""


def test_a_dropped_folder_is_checked_and_sent_with_its_shape(open_page):
    LeaderboardFactory(slug="bricks")
    page = open_page(UserFactory())
    page.goto("/submit/?leaderboard=bricks")
    files = {"main.py": "", "config.yaml": "a: 1", "src/a.py": "", "src/b/c.py": "", "NOTES.md": "x", "x.png": "y"}
    junk = {".git/config": "", "src/__pycache__/a.pyc": "", ".DS_Store": "", "README.md": "x", "src/LICENSE": "x"}
    page.evaluate(DROP, {**files, **junk})
    expect(page.locator("[data-files] li")).to_have_count(6)
    expect(page.locator("[data-files] .bad")).to_have_count(2)
    expect(page.locator("[data-summary]")).to_contain_text("6 files")
    expect(page.locator("[data-summary]")).to_contain_text("2 refused")
    expect(page.locator("[data-summary] .left-out")).to_contain_text("3 left out")  # a line of its own, and no fault
    expect(page.locator("[data-send]")).to_be_disabled()

    page.get_by_role("button", name="Leave out NOTES.md").click()
    assert page.evaluate("document.activeElement.dataset.path") == "config.yaml"
    page.get_by_role("button", name="Leave out what is refused").click()
    expect(page.locator("[data-summary]")).to_contain_text("all will be taken")
    page.fill("[name=entrypoint]", "src/a.py")
    expect(page.locator("[data-files] .bad")).to_have_count(1)
    page.fill("[name=entrypoint]", "main.py")
    page.click("[data-send]")
    page.wait_for_url("**/jobs/*/")
    manifest = Job.objects.get().submission.manifest
    assert sorted(file["path"] for file in manifest) == ["config.yaml", "main.py", "src/a.py", "src/b/c.py"]


def test_a_chosen_folder_and_the_last_config(open_page, tmp_path):
    LeaderboardFactory(slug="bricks")
    (tmp_path / "mine" / "src").mkdir(parents=True)
    for name, text in {"main.py": "", "config.yaml": "epochs: 3\n", "src/a.py": ""}.items():
        (tmp_path / "mine" / name).write_text(text)
    page = open_page(UserFactory())
    page.goto("/submit/?leaderboard=bricks")
    page.set_input_files("[data-folder-input]", tmp_path / "mine")
    expect(page.locator("[data-files] li")).to_have_count(3)
    page.click("[data-send]")
    page.wait_for_url("**/jobs/*/")
    manifest = Job.objects.get().submission.manifest
    assert sorted(file["path"] for file in manifest) == ["config.yaml", "main.py", "src/a.py"]

    page.goto("/submit/")
    choose(page, GOOD)
    expect(page.locator("#config-text")).to_have_value("epochs: 1\n")
    page.click("[data-last-config]")
    expect(page.locator("#config-text")).to_have_value("epochs: 3\n")
    page.click("[data-reset]")
    expect(page.locator("#config-text")).to_have_value("epochs: 1\n")


def test_the_upload_says_how_it_goes(open_page, live_server):
    LeaderboardFactory(slug="bricks")
    page = open_page(UserFactory())
    page.goto("/submit/?leaderboard=bricks")
    choose(page, {**GOOD, "weights.txt": b"0" * 4_000_000})
    slow = page.context.new_cdp_session(page)
    slow.send("Network.enable")
    speed = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 1_000_000}
    slow.send("Network.emulateNetworkConditions", speed)
    page.click("[data-send]")
    expect(page.locator("[data-progress-text]")).to_have_text(
        re.compile(r"[\d.]+ .iB / 3\.8 MiB · [\d.]+ .iB/s · 0:0\d left")
    )
    page.wait_for_url("**/jobs/*/")


def test_it_works_without_javascript(open_page):
    LeaderboardFactory(slug="bricks")
    page = open_page(UserFactory(), java_script_enabled=False)
    page.goto("/submit/?leaderboard=bricks")
    choose(page, GOOD)
    page.click("text=Submit and run")
    assert re.search(r"/jobs/[0-9a-f-]{36}/$", page.url)
    page.click("#cancel")
    page.click("#confirm-cancel")
    assert "The job is cancelled." in page.inner_text(".notes")
    page.click("#run-again")
    page.goto("/jobs/")
    page.check("input[name=job] >> nth=0")
    page.check("input[name=job] >> nth=1")
    page.click("#compare")
    assert page.locator("table.compare").count() == 1
    page.click("button[value=ja]")
    assert page.locator("html").get_attribute("lang") == "ja"


def test_a_choice_survives_the_lists_refresh(open_page):
    user = UserFactory()
    done = JobFactory(user=user, status="completed")
    waiting = JobFactory(user=user)
    page = open_page(user)
    page.goto("/jobs/")
    page.check(f"#pick-{done.pk}")
    page.focus(f"#job-{done.pk}")
    transitions.cancel(waiting.pk, by=user)
    # The list refreshes every five seconds, which is as long as the default patience.
    expect(page.locator(".chip.cancelled")).to_be_visible(timeout=15_000)
    expect(page.locator(f"#pick-{done.pk}")).to_be_checked()
    assert page.evaluate("document.activeElement.id") == f"job-{done.pk}"
    expect(page.locator(".under")).to_contain_text("nothing refreshes")


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(open_page, width, locale):
    user = UserFactory(username="a" * 150)
    metrics = [{"name": f"metric_{number}", "label": "A long name of a metric"} for number in range(30)]
    board = LeaderboardFactory(title="x" * 200, description="y" * 500, metrics=metrics)
    values = {f"metric_{number}": 0.5 for number in range(30)}
    shown = {"params": {"p" * 100: "v" * 500}, "artifacts": [{"path": "f" * 240 + ".txt", "bytes": 1, "sha256": ""}]}
    job = JobFactory(user=user, leaderboard=board, status="completed", score=0.5, metrics=values, **shown)
    EntryFactory(leaderboard=board, job=job, score=0.5)
    failed = JobFactory(user=user, leaderboard=board, status="failed", error_message="z" * 500)
    page = open_page(user, viewport={"width": width, "height": 800}, extra_http_headers={"Accept-Language": locale})
    compare = f"/compare/?job={job.pk}&job={failed.pk}"
    pages = ["/", "/submit/", "/jobs/", "/account/", "/nowhere/", compare, board.get_absolute_url()]
    for url in [*pages, job.get_absolute_url(), failed.get_absolute_url(), job.submission.get_absolute_url()]:
        page.goto(url)
        assert (url, page.evaluate(TOO_WIDE)) == (url, [])


ROWS_SEEN = set()


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_browser_changes_nothing_of_the_rows_a_test_begins_with(open_page, time):
    """Its loop gives Django other connections, which must know what migrations made: a leaderboard, the content types."""
    assert Leaderboard.objects.get().slug == "default"
    ROWS_SEEN.add(ContentType.objects.get(model="leaderboard").pk)
    assert len(ROWS_SEEN) == 1
