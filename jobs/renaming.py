"""Renaming a submission, and its runs in MLflow with it."""

from django.db import connection, transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.refusals import Forbidden
from submissions.contents import refuse_deleted
from submissions.models import Submission
from submissions.services import check_name

# A row that is there already sends the whole run, and its name with it.
_RENAME_RUNS = """
INSERT INTO jobs_trackingoutbox (job_id, tries, last_error, only_name)
SELECT id, 0, '', true FROM jobs_job WHERE submission_id = %s AND status = 'completed' AND run_id <> ''
ON CONFLICT (job_id) DO NOTHING
"""


@transaction.atomic
def rename_submission(submission: Submission, *, by: User, name: str) -> Submission:
    """Give the submission a name, or none; the reconciler renames its runs. Raises InvalidInput, Forbidden and Gone."""
    if by.pk != submission.user_id:
        raise Forbidden("forbidden", _("Only its owner can rename a submission."))
    refuse_deleted(submission)
    submission.name = check_name(name)
    if (
        Submission.objects.filter(pk=submission.pk, deleted_at=None)
        .exclude(name=submission.name)
        .update(name=submission.name)
    ):
        with connection.cursor() as cursor:
            cursor.execute(_RENAME_RUNS, [submission.pk])
    return submission
