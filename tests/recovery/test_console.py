"""An operator at the console, in a real browser, beside workers that really run: what is clicked happens, the status page
says so by itself, and it is written down."""

import os
import signal

import pytest
from django.contrib.auth.hashers import make_password
from playwright.sync_api import expect, sync_playwright

from recovery.site import wait_for
from tests.pages.conftest import CHROMIUM, PATIENCE, launch

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]
RECOVERED = 90
PASSWORD = "only-for-this-test"


@pytest.fixture
def console(site, monkeypatch):
    """Two tabs of an operator: one to act in, and the status page, which nobody touches."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's loop runs in this thread
    site.sql("DELETE FROM accounts_operatoraction")
    site.sql(
        "INSERT INTO accounts_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, "
        "date_joined) VALUES (%s, true, 'operator', '', '', '', true, true, now()) "
        "ON CONFLICT (username) DO UPDATE SET password = excluded.password",
        make_password(PASSWORD),
    )
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(base_url=site.url, locale="en-US").new_page()
        page.set_default_timeout(PATIENCE)
        page.goto("/admin/status/")
        page.fill("[name=username]", "operator")
        page.fill("[name=password]", PASSWORD)
        page.press("[name=password]", "Enter")
        expect(page.locator("#status")).to_be_visible()
        status = page.context.new_page()
        status.set_default_timeout(PATIENCE)
        status.goto("/admin/status/")
        yield page, status
        browser.close()


def act(page, address, label, reason):
    """From an object's page over the preview and the reason to the end."""
    page.goto(address)
    page.locator(".console-operations").get_by_role("button", name=f"{label}…", exact=True).click()
    expect(page.locator("#preview")).to_be_visible()
    page.fill("[name=reason]", reason)
    page.locator(".submit-row input[type=submit]").click()
    expect(page.locator("#progress")).to_contain_text("1 done, 0 refused")


def switch(page, reason):
    """The switch of the whole queue, the other way."""
    page.goto("/admin/status/")
    page.get_by_role("link", name="Pause or resume the queue…").click()
    page.fill("[name=reason]", reason)
    page.locator(".submit-row input[type=submit]").click()
    expect(page.locator("#status")).to_be_visible()


def row_of(status, site, process):
    """(the worker's line on the status page, its address in the admin)."""
    number, name = site.sql("SELECT id, name FROM jobs_worker WHERE pid = %s ORDER BY id DESC LIMIT 1", process.pid)[0]
    return status.locator(".console-scroll tbody tr", has_text=name), f"/admin/jobs/worker/{number}/change/"


def recorded(site):
    return site.sql("SELECT username, action, reason FROM accounts_operatoraction ORDER BY id")


def test_a_worker_with_a_job_in_hand_is_steered_by_clicks(site, console):
    page, status = console
    first, job = site.ready_worker(), site.submit(seconds=600)
    job.wait_running()
    line, worker = row_of(status, site, first)
    expect(line).to_contain_text(job.id[:8])
    status.locator("#ends summary").click()

    act(page, worker, "Disable: take no more jobs", "Its fan is loud.")
    expect(line).to_contain_text("running · disabled")
    assert job.status == "running"
    expect(page.locator("#progress a").first).to_have_attribute("href", worker)
    page.goto(worker)
    offered = page.locator(".console-operations button").all_inner_texts()
    assert ("Enable…" in offered, "Disable: take no more jobs…" in offered) == (True, False)
    act(page, worker, "Enable", "Its fan is quiet.")
    expect(line).not_to_contain_text("disabled")

    act(page, worker, "Stop now: give the job in hand back", "The machine restarts.")
    expect(line).to_contain_text("stopped")
    assert first.wait(RECOVERED) == 0
    assert (job.status, job.row()["releases"]) == ("pending", 1)

    site.worker()
    job.wait_running(seconds=RECOVERED)
    act(page, f"/admin/jobs/job/{job.id}/change/", "Cancel", "It runs too long.")
    job.wait_final(seconds=RECOVERED)
    assert (job.status, job.row()["attempt"], job.runs()) == ("cancelled", 2, [])
    # Opened before all of this, and the page has moved a dozen times since.
    assert status.locator("#ends").get_attribute("open") is not None
    assert recorded(site) == [
        ("operator", "disable_worker", "Its fan is loud."),
        ("operator", "enable_worker", "Its fan is quiet."),
        ("operator", "stop_worker", "The machine restarts."),
        ("operator", "cancel_job", "It runs too long."),
    ]
    page.goto("/admin/accounts/operatoraction/")
    expect(page.locator("#result_list")).to_contain_text("Stop now: give the job in hand back")


def test_the_queue_is_paused_and_runs_again(site, console):
    page, status = console
    site.ready_worker()
    switch(page, "The driver is upgraded.")
    expect(status.locator("#status")).to_contain_text("The driver is upgraded.")
    job = site.submit()
    assert "paused" in str(site.call("GET", f"/jobs/{job.id}/status", job.user)).lower()
    assert job.status == "pending"
    switch(page, "The driver is in.")
    expect(status.locator("#status")).not_to_contain_text("The driver is upgraded.")
    job.wait_final(seconds=RECOVERED)
    assert job.status == "completed"
    assert [row[1] for row in recorded(site)] == ["pause_queue", "resume_queue"]


def test_a_job_that_is_stuck_is_mended_by_one_click(site, console):
    """The reconciler hangs, and a worker is killed: nobody takes its job back but the operator."""
    _page, status = console
    reconciler = site.standing[1]
    worker, job = site.ready_worker(), site.submit(seconds=8)
    job.wait_running()
    line, _ = row_of(status, site, worker)
    os.kill(reconciler.pid, signal.SIGSTOP)
    try:
        site.end(worker, signal.SIGKILL)
        expect(line).to_contain_text("silent")
        stuck = status.locator("#stuck tbody tr", has_text=job.id[:8])
        expect(stuck).to_contain_text("runs, though its lease is over")
        stuck.get_by_role("button", name="Take it back").click()
        expect(status.locator(".messagelist")).to_contain_text("Done and recorded.")
        wait_for(lambda: job.status == "pending", seconds=RECOVERED)
        expect(status.locator("#stuck")).not_to_contain_text("runs, though its lease is over")
    finally:
        os.kill(reconciler.pid, signal.SIGCONT)
    site.worker()
    job.wait_final(seconds=RECOVERED)
    assert (job.status, job.row()["attempt"], job.row()["losses"]) == ("completed", 2, 1)
    assert [row[:2] for row in recorded(site)] == [("operator", "mend_lease_over")]
