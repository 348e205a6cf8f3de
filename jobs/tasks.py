"""The one function that a wake-up call names. Our worker never executes a message: it reads it as a nudge."""


def run_job(job_id: str) -> None:
    """Refuse to run outside `manage.py worker`, which claims from PostgreSQL whatever the message says."""
    raise RuntimeError(f"job {job_id} must be run by `manage.py worker`, not by a plain RQ worker")
