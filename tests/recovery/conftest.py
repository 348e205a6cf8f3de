"""One broken site a test process, its web and reconciler up; each test brings its workers and leaves none."""

import signal

import pytest

from recovery.site import Site


@pytest.fixture(scope="session")
def whole_site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        site.start()
        site.standing = [site.web(), site.reconciler()]
        yield site
    finally:
        site.stop()


@pytest.fixture
def site(whole_site):
    yield whole_site
    for process in [one for one in whole_site.processes if one not in whole_site.standing]:
        whole_site.end(process, signal.SIGKILL)
    for number, start in enumerate((whole_site.web, whole_site.reconciler)):
        if whole_site.standing[number].poll() is not None:
            whole_site.standing[number] = start()
    whole_site.sql(
        "UPDATE jobs_job SET status = 'cancelled', finished_at = now(), lease_until = NULL, error_code = 'cancelled' "
        "WHERE status IN ('pending', 'running')"
    )
