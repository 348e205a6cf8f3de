"""What the platform tells of a job's end is stored so that everybody reads it in their own language."""

import ast
import json
import re
from pathlib import Path

import pytest
from django.utils import translation
from django.utils.translation import gettext_lazy

from jobs import transitions
from jobs.execution import code_copy, supervisor, volumes
from jobs.execution.exit_sentence import SIGNALS, exit_sentence
from jobs.execution.metrics import BadMetrics, parse_metrics
from jobs.execution.spec import Limits, Result
from jobs.execution.told import Told, kept, retold, together
from jobs.models import ErrorCode, Job
from jobs.templatetags.job_words import attempt_why
from jobs.tests.factories import JobAttemptFactory, JobFactory
from jobs.transitions import Evidence
from jobs.verdict import judge
from jobs.wording import in_words
from jobs.workspace import BadSubmission, _unpack
from submissions.archive import ArchiveRefused
from submissions.models import Submission

SENTENCE = Told("%(place)s must be a number, not %(kind)s", place="metrics.a", kind=Told("a list"))


def test_a_told_sentence_is_english_text_and_survives_a_way_as_json():
    assert SENTENCE == "metrics.a must be a number, not a list"
    again = retold(json.loads(json.dumps(kept(SENTENCE))))
    assert (again, kept(again)) == (SENTENCE, kept(SENTENCE))
    assert kept("plain") == {}


def test_a_stored_sentence_is_said_in_the_readers_language():
    with translation.override("ja"):
        assert in_words(SENTENCE, kept(SENTENCE)) == "metrics.aは数値でなければなりません（リストではなく）"
    with translation.override("en"):
        assert in_words(SENTENCE, kept(SENTENCE)) == SENTENCE


@pytest.mark.parametrize("stored", [{}, {"text": ""}, {"text": "%(gone)s", "values": {"a": 1}}, {"text": "x"}])
def test_what_cannot_be_said_again_is_shown_as_it_was_written(stored):
    assert in_words("as written", stored) == "as written"


def test_words_of_a_run_are_never_taken_for_a_template():
    line = "100 %(place)s %d {text}"
    told = Told("%(how)s. Its last line: %(line)s", how=Told("exit code %(code)d", code=3), line=line)
    with translation.override("ja"):
        assert in_words(told, kept(told)) == f"終了コード3。最後の行: {line}"


def test_a_result_keeps_its_sentences_on_its_way_from_the_supervisor():
    sent = Result("timeout", detail=Told("%(used)d of %(limit)d seconds of wall time", used=3, limit=2))
    came = Result.from_event(json.loads(json.dumps(sent.to_event())))
    assert (came, kept(came.detail)) == (sent, kept(sent.detail))


@pytest.mark.django_db
def test_a_failed_job_is_read_in_both_languages(client, tmp_path):
    job = JobFactory(status="running")
    JobAttemptFactory(job=job)
    ended = Result("exited", exit_code=0, metrics_error=Told("missing"))
    verdict = judge(ended, job.leaderboard, metrics_file=tmp_path / "metrics.json")
    transitions.fail(job, attempt=1, code=verdict.code, message=verdict.message, evidence=Evidence())
    client.force_login(job.user)
    english, japanese = (
        "left no metrics.json in its --output folder",
        "--output のフォルダーに metrics.json を残しませんでした",
    )
    for language, said in (("en", english), ("ja", japanese)):
        with translation.override("en"):  # whatever the request leaves active ends here
            html = client.get(job.get_absolute_url(), headers={"accept-language": language}).content.decode()
        assert html.count(said) == 2  # the error, and its attempt
    assert english in Job.objects.get().error_message


@pytest.mark.django_db
def test_a_row_of_an_earlier_version_is_shown_as_it_was_written():
    job = JobFactory(status="failed", error_code=ErrorCode.TIMEOUT, error_message="1800 of 1800 seconds")
    attempt = JobAttemptFactory(job=job, outcome="released", detail="The worker was stopped.", ended_at=job.finished_at)
    with translation.override("ja"):
        assert job.error_in_words == "1800 of 1800 seconds"
        assert attempt_why(attempt).endswith("The worker was stopped.")


def test_a_refused_archive_tells_what_was_refused(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise ArchiveRefused("bad_archive", gettext_lazy("must not be larger than max."))

    monkeypatch.setattr("jobs.workspace._fetch", lambda submission, target: None)
    monkeypatch.setattr("jobs.workspace.extract_archive", refuse)
    with translation.override("ja"), pytest.raises(BadSubmission) as refused:
        _unpack(Submission(), tmp_path)
    assert kept(refused.value.args[0]) == {"text": "must not be larger than max.", "values": {}}


def _limits():
    limits = Limits()
    yield supervisor._memory_sentence(2e9, limits, is_counted=True)
    yield supervisor._memory_sentence(2e9, limits, is_counted=False)
    yield supervisor._cpu_sentence(9, limits)
    yield code_copy.full_sentence(limits)
    yield volumes._disk_is_full(10**6)
    yield from map(volumes.Volumes("", limits, 0, 0).sentence, ("output", "tmp", "shm"))
    yield from (exit_sentence(128 + number, number) for number in SIGNALS)


def test_every_limit_that_ends_a_run_is_told_in_the_readers_language():
    for sentence in _limits():
        stored = json.loads(json.dumps(kept(sentence)))
        with translation.override("ja"):
            words = in_words(sentence, stored)
        assert re.search("[ぁ-んァ-ヶ一-龠]", words) and not re.search(r"\b(full|killed|Killed|left|of)\b", words)


@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"metrics": []}', b'{"params": {}, "metrics": {"a": [], "\\n": 1}}'])
def test_every_refusal_of_metrics_can_be_translated(raw):
    try:
        sentences = [fault.sentence for fault in parse_metrics(raw).faults]
    except BadMetrics as refusal:
        sentences = [refusal.message]
    with translation.override("ja"):
        for sentence in [*sentences, together([*sentences] * 30)]:
            assert in_words(sentence, kept(sentence)) != sentence


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{} x",
        b'{"a" 1}',
        b'{"a": 1 2}',
        b"{a: 1}",
        b'{"a": "\\q"}',
        b'{"a": "\\u1"}',
        b'{"a": "\n"}',
        b'{"a": "x',
    ],
)
def test_why_a_file_is_no_json_is_said_in_the_readers_language(raw):
    with pytest.raises(BadMetrics) as refused:
        parse_metrics(raw)
    with translation.override("ja"):
        words = in_words("", kept(refused.value.message))
    assert re.findall(r"[A-Za-z]{4,}", words.replace("uXXXX", "")) == ["JSON"]


def test_no_sentence_is_handed_on_without_what_it_is_made_of():
    """In the modules that tell why a job ended, a literal sentence is always inside `_(...)`."""
    here = Path(transitions.__file__).parent
    modules = [
        here / name for name in ("verdict.py", "running.py", "workspace.py", "sandbox.py", "execution/metrics.py")
    ]
    telling = {"Failure", "StorageDown", "BadSubmission", "ImageUnusable", "BadMetrics", "_fail", "_give_back"}
    bare = []
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in telling and node.args:
                # All but the codes: a BadMetrics has one in front, as text.
                told = node.args[1:] if getattr(node.func, "id", "") == "BadMetrics" else node.args
                bare += [
                    f"{path.name}:{one.lineno}"
                    for one in told
                    if isinstance(one, ast.Constant | ast.JoinedStr) and not isinstance(getattr(one, "value", ""), int)
                ]
    assert bare == []
