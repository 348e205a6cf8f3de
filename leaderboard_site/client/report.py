"""The end of a job: its result, where its person stands, and why."""

from __future__ import annotations

from typing import Any

from core.sizes import human_bytes
from leaderboard_site.client.faults import COMPLETED, NOT_COMPLETED, Refused
from leaderboard_site.client.language import current, say
from leaderboard_site.client.session import Session

LOG_PREFIX = "LeadersBoard: "  # of the platform's own lines at the end of a log
TAIL = 100_000


class LogTail:
    """The end of the log that was shown: what it says of left-out files is not said again as a note."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, part: str) -> None:
        self._text = (self._text + part)[-TAIL:]

    def says(self, note: str) -> bool:
        return f"{LOG_PREFIX}{note}\n" in self._text


def show_result(session: Session, job_id: str, log: LogTail | None = None) -> int:
    """Write the result of an ended job; the exit code."""
    result = gather(session, job_id)
    notes = result["notes"]
    if log is not None and notes:
        # The log is in English; the notes are in the reader's language, in the same order.
        english = notes if current() == "en" else _notes_in_english(session, job_id)
        notes = [note for number, note in enumerate(notes) if number >= len(english) or not log.says(english[number])]
    session.console.result(result, in_words(result, notes))
    return COMPLETED if result["status"] == "completed" else NOT_COMPLETED


def gather(session: Session, job_id: str) -> dict[str, Any]:
    job = session.ask(f"/api/jobs/{job_id}")
    result = session.ask(f"/api/jobs/{job_id}/results")
    return {
        **{name: job[name] for name in ("job_id", "submission_id", "leaderboard", "status", "score", "trial")},
        **{name: job[name] for name in ("error_code", "error_message", "wall_seconds")},
        **{name: result[name] for name in ("params", "metrics", "artifacts", "run_id", "mlflow_ui_link")},
        **{name: job.get(name) for name in ("rerun_of", "started_by_operator", "operator_reason")},
        **_standing(session, job),
        "notes": job.get("notes", []),  # not of an older site
        "ranking": job["ranking"],
        "url": session.address(job_id),
    }


def _notes_in_english(session: Session, job_id: str) -> list[str]:
    notes: list[str] = session.ask(f"/api/jobs/{job_id}", {"Accept-Language": "en"}).get("notes", [])
    return notes


def _standing(session: Session, job: dict[str, Any]) -> dict[str, Any]:
    """Where the job's person stands: `rank` (None: not among the first thousand) and whether by this job."""
    nowhere = {"rank": None, "is_entry": False, "entry_score": None, "ranked_by": ""}
    if job["status"] != "completed":
        return nowhere
    try:
        board = session.ask(f"/api/leaderboards/{job['leaderboard']}/entries?limit=1000")
    except Refused:
        return nowhere  # a board that only operators see
    for entry in board["entries"]:
        if entry["user_id"] == job["user_id"]:
            is_entry = entry["job_id"] == job["job_id"]
            own = {"rank": entry["rank"], "is_entry": is_entry, "entry_score": entry["score"]}
            return {**own, "ranked_by": board["metric"]}
    return {**nowhere, "ranked_by": board["metric"]}


def in_words(result: dict[str, Any], notes: list[str], *, has_artifacts: bool = False) -> str:
    lines = []
    if result.get("started_by_operator"):
        start = say("An operator started this job, as a rerun of {job}").format(job=result["rerun_of"])
        lines.append(f"{start}: {result['operator_reason']}" if result["operator_reason"] else f"{start}.")
    if result["status"] == "completed":
        lines += _success(result)
    else:
        sentence = say("The job is {status}: {code}: {message}")
        status, code, message = say(result["status"]), result["error_code"], result["error_message"]
        lines.append(sentence.format(status=status, code=code, message=message))
    if has_artifacts:
        lines += [f"  {item['path']}  {human_bytes(item['bytes'])}" for item in result["artifacts"]]
    return "\n".join([*lines, *(say("Note: {note}").format(note=note) for note in notes), result["url"]])


def _success(result: dict[str, Any]) -> list[str]:
    lines = [say("The job is completed after {seconds} s.").format(seconds=f"{result['wall_seconds'] or 0:.1f}")]
    lines += [f"  {name:<24} {value:.6g}" for name, value in result["metrics"].items()]
    if result["ranking"] is not None and not result["ranking"]["is_on_board"]:
        lines.append(result["ranking"]["reason"])
    if result["rank"] is not None:
        values = {"rank": result["rank"], "board": result["leaderboard"], "metric": result["ranked_by"]}
        if result["is_entry"]:
            lines.append(say("Rank {rank} on {board}, by {metric}, with this job.").format(**values))
        else:
            sentence = say("Rank {rank} on {board}, by {metric}, with an earlier job of yours with {score}.")
            lines.append(sentence.format(**values, score=f"{result['entry_score']:.6g}"))
    return lines
