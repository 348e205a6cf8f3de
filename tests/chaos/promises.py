"""The promises of the design, as questions to PostgreSQL, the stored files and MLflow after a storm."""

from pathlib import Path
from typing import Any

import psycopg

from leaderboard_site.embedded.testing import mlflow_client
from tests.chaos.site import Site

# Every change of a status, written by the database itself, whoever made it.
AUDIT = """
CREATE TABLE storm_audit (job_id uuid, was text, is_now text, attempt int, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION storm_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.status IS DISTINCT FROM OLD.status THEN
        INSERT INTO storm_audit (job_id, was, is_now, attempt) VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt);
    END IF; RETURN NULL; END $$;
CREATE TRIGGER storm_audit AFTER UPDATE ON jobs_job FOR EACH ROW EXECUTE FUNCTION storm_audit();
"""
FINAL = "('completed', 'failed', 'cancelled')"
# Each finds rows that must not be there.
QUESTIONS = {
    "a job that is not final": f"SELECT id, status FROM jobs_job WHERE status NOT IN {FINAL}",
    "a job with two ends": f"SELECT job_id FROM storm_audit WHERE is_now IN {FINAL} GROUP BY job_id HAVING count(*) > 1",
    "a job that left its end": f"SELECT job_id, was, is_now FROM storm_audit WHERE was IN {FINAL}",
    "completed without a result": "SELECT id FROM jobs_job WHERE status = 'completed' AND (score IS NULL OR metrics = '{}')",
    "a result without completion": "SELECT id FROM jobs_job WHERE status <> 'completed' AND (score IS NOT NULL OR metrics <> '{}')",
    "a run id without completion": "SELECT id FROM jobs_job WHERE status <> 'completed' AND run_id <> ''",
    "completed, and MLflow was never told": "SELECT id FROM jobs_job WHERE status = 'completed' AND run_id = ''",
    "an outbox row left": "SELECT job_id, last_error FROM jobs_trackingoutbox",
    "attempts that do not add up": "SELECT id FROM jobs_job j WHERE attempt <> (SELECT count(*) FROM jobs_jobattempt a WHERE a.job_id = j.id)",
    "an attempt without an end": "SELECT job_id, number FROM jobs_jobattempt WHERE outcome = 'running'",
    "two attempts at once": "SELECT a.job_id FROM jobs_jobattempt a JOIN jobs_jobattempt b ON a.job_id = b.job_id AND b.number = a.number + 1 WHERE b.started_at < a.ended_at",
    "an entry that is not the best": "SELECT e.user_id FROM leaderboards_entry e JOIN jobs_job j ON j.leaderboard_id = e.leaderboard_id AND j.user_id = e.user_id WHERE j.score > e.score",
    "a result without an entry": "SELECT j.id FROM jobs_job j LEFT JOIN leaderboards_entry e ON e.leaderboard_id = j.leaderboard_id AND e.user_id = j.user_id WHERE j.score IS NOT NULL AND e.id IS NULL",
    "an entry of a job that is not completed": "SELECT e.id FROM leaderboards_entry e JOIN jobs_job j ON j.id = e.job_id WHERE j.status <> 'completed' OR j.score <> e.score",
    "log pieces left": "SELECT job_id FROM jobs_joblogchunk",
    "user's fault where there was none": "SELECT j.id, error_code, error_message FROM jobs_job j JOIN submissions_submission s ON s.id = j.submission_id WHERE j.status = 'failed' AND s.metadata->>'kind' = 'good' AND error_code <> 'worker_lost'",
    "completed where it had to fail": "SELECT j.id FROM jobs_job j JOIN submissions_submission s ON s.id = j.submission_id WHERE j.status = 'completed' AND s.metadata->>'kind' = 'bad'",
}  # fmt: skip


def violations(site: Site, accepted: dict[str, set[str]]) -> list[str]:
    """What is not as promised, a sentence each."""
    found: list[str] = []
    with psycopg.connect(site.locations.database_url()) as database:
        for what, question in QUESTIONS.items():
            found += [f"{what}: {row}" for row in database.execute(question).fetchall()]
        for table, ids in (("jobs_job", accepted["jobs"]), ("submissions_submission", accepted["submissions"])):
            known = {str(row[0]) for row in database.execute(f"SELECT id FROM {table}").fetchall()}
            found += [f"accepted and gone from {table}: {lost}" for lost in sorted(ids - known)]
        stored = database.execute("SELECT object_name FROM submissions_submission").fetchall()
        found += [
            f"stored file gone: {name}" for (name,) in stored if not (site.locations.var / "uploads" / name).is_file()
        ]
        rows = database.execute("SELECT id, score, run_id FROM jobs_job WHERE status = 'completed'").fetchall()
    return found + _tracking(site, {str(job): (score, run) for job, score, run in rows})


def _tracking(site: Site, completed: dict[str, tuple[float, str]]) -> list[str]:
    client = mlflow_client(site.locations)
    experiments = [found.experiment_id for found in client.search_experiments()]
    runs: dict[str, list[Any]] = {}
    token = None
    while True:
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        for run in page:
            runs.setdefault(run.data.tags.get("leadersboard.job_id", "?"), []).append(run)
        token = page.token
        if not token:
            break
    found = [f"MLflow has a run of no completed job: {job}" for job in runs.keys() - completed.keys()]
    for job, (score, run_id) in completed.items():
        mine = runs.get(job, [])
        if len(mine) != 1:
            found.append(f"MLflow has {len(mine)} runs of job {job}")
        elif mine[0].data.metrics.get("score") != score or mine[0].info.run_id != run_id:
            found.append(f"MLflow's run of job {job} is another: {mine[0].data.metrics} {mine[0].info.run_id}")
    return found


def processes_with(word: str) -> list[str]:
    """Command lines on this machine that hold the word: a run's leftovers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if word in line:
            found.append(f"{folder.name}: {line[:100]}")
    return found
