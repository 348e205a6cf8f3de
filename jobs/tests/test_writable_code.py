"""Which runs have a copy of the code folder to write to, and where that is said."""

import pytest

from jobs.models import Job
from jobs.running import Runner
from jobs.services import rerun_job
from jobs.tests.factories import JobFactory
from jobs.workspace import Workspace
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db


class NoPulse:
    def hold(self, held):
        pass


@pytest.mark.parametrize("by_board", [False, True])
@pytest.mark.parametrize("by_submission", [False, True])
def test_board_or_submission_suffices(tmp_path, by_board, by_submission):
    board = LeaderboardFactory(has_writable_code=by_board)
    job = JobFactory(
        leaderboard=board, submission=SubmissionFactory(leaderboard=board, has_writable_code=by_submission)
    )
    runner = Runner(NoPulse(), executor="bubblewrap")
    spec = runner._spec(Workspace(tmp_path, tmp_path / "code", tmp_path / "config.yaml"), job)
    runner.close()
    assert spec.has_writable_code is job.has_writable_code is (by_board or by_submission)


def test_rerun_has_what_its_original_had():
    """Whatever the board says by now; and an ended job says what its run had."""
    job = JobFactory(status="failed", limits_applied={"code": "tmpfs"})
    plain = JobFactory(status="failed", limits_applied={"memory": "watchdog"})
    again = Job.objects.get(pk=rerun_job(job, by=None).pk)
    assert job.has_writable_code and again.has_writable_code
    assert not rerun_job(plain, by=None).has_writable_code
    plain.leaderboard.has_writable_code = True
    assert not plain.has_writable_code
