"""What a run says about itself: read as a stranger's words, thinned, written by its holder alone."""

import json
import math
import os
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.curves import run_charts
from jobs.execution.logfile import TAIL_BYTES, LogFile
from jobs.execution.output_lines import LONGEST_REPORT, ReportLines
from jobs.models import JobProgress
from jobs.progress import MAX_CURVES, MAX_MESSAGE, MAX_POINTS, MAX_POINTS_IN_ALL, Curve, ProgressShipper, Reports
from jobs.tests.factories import JobFactory
from jobs.wording import in_words


def read(*lines: str | bytes) -> Reports:
    reports = Reports()
    raw = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    reports.take(raw, seconds=1.04)
    return reports


def curves(reports: Reports) -> dict[str, list[list[float]]]:
    return {curve["name"]: curve["points"] for curve in json.loads(reports.as_json())}


# --- Progress ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "fraction", "message"),
    [
        ("::progress 0.35 epoch 7 of 20", 0.35, "epoch 7 of 20"),
        ("::progress 0", 0.0, ""),
        ("::progress 1 done", 1.0, "done"),
        ("::progress .5 half", 0.5, "half"),
        ("::progress 5e-1  two   spaces ", 0.5, "two spaces"),
        ("::progress 0.1 \x1b[31mred\x1b[0m \x1b]0;title\x07<b>&", 0.1, "red <b>&"),
        ("::progress 0.1 \u202egnp.exe\x00", 0.1, "gnp.exe"),
        ("::progress 0.1 学習中", 0.1, "学習中"),
        ("::progress 0.1 " + "é" * 500, 0.1, "é" * MAX_MESSAGE),
    ],
)
def test_progress_is_read(line, fraction, message):
    reports = read(line)
    assert (reports.fraction, reports.message, reports.ignored) == (fraction, message, 0)


@pytest.mark.parametrize("text", ["", "x", "1.01", "-0.1", "nan", "inf", "1_0", "0x1", "35%", "٠", "1e400", "9" * 40])
def test_progress_that_is_no_fraction_is_left_out(text):
    reports = read("::progress 0.2 before", f"::progress {text} after")
    assert (reports.fraction, reports.message, reports.ignored) == (0.2, "before", 1)


def test_the_latest_progress_stands_also_when_it_falls():
    assert read("::progress 0.9 a", "::progress 0.1 b").fraction == 0.1


# --- Metrics -------------------------------------------------------------------------------------------------------
def test_metrics_become_curves():
    reports = read("::metric step=0 loss=1.5 auc=0.5", "::metric step=10 loss=1e-3", "::metric auc=-.25 x/y.z:1-2_3=+7")
    assert curves(reports) == {
        "loss": [[0, 1.5, 1.0], [10, 0.001, 1.0]],
        "auc": [[0, 0.5, 1.0], [1, -0.25, 1.0]],
        "x/y.z:1-2_3": [[0, 7.0, 1.0]],
    }
    assert reports.ignored == 0


@pytest.mark.parametrize(
    "words",
    [
        "loss=nan", "loss=inf", "loss=-Infinity", "loss=", "loss", "=1", "loss=1=2", "loss=1,5", "loss=1e16", "loss=1e999",
        "a b=", "../x=1", "a//b=1", "a/./b=1", "/a=1", "a/=1", "-a=1", "日$本=1", "a$=1", "n" * 101 + "=1", "step=1",
        "step=-1 loss=1", "step=1.5 loss=1", "step=x loss=1", "step=" + "9" * 16 + " loss=1", "loss=" + "1" * 5000,
    ],
)  # fmt: skip
def test_metrics_that_break_a_rule_are_counted_and_left_out(words):
    reports = read(f"::metric {words}")
    assert (curves(reports), reports.ignored > 0) == ({}, True)


def test_a_step_that_comes_again_replaces_and_one_that_goes_back_is_left_out():
    reports = read("::metric step=1 a=1", "::metric step=2 a=2", "::metric step=2 a=3", "::metric step=1 a=9")
    assert (curves(reports), reports.ignored) == ({"a": [[1, 1.0, 1.0], [2, 3.0, 1.0]]}, 1)


def test_there_are_only_so_many_curves():
    reports = read(*[f"::metric m{number}=1" for number in range(MAX_CURVES + 5)])
    assert (len(curves(reports)), reports.ignored) == (MAX_CURVES, 5)
    assert "at most 200 names" in reports.notes[0]


def test_many_long_curves_share_what_one_run_may_keep():
    reports = Reports()
    for step in range(300):
        words = " ".join(f"m{number}={step}" for number in range(MAX_CURVES))
        reports._take_metrics(words, f"step={step} {words}".split(), 1.0)
    lengths = {len(points) for points in curves(reports).values()}
    assert sum(len(points) for points in curves(reports).values()) <= MAX_POINTS_IN_ALL
    assert min(lengths) >= MAX_POINTS_IN_ALL // MAX_CURVES // 2
    assert {points[-1][0] for points in curves(reports).values()} == {299}
    assert len(reports.as_json()) < 256 * 1024


def test_names_may_use_any_script():
    assert curves(read("::metric 損失=1")) == {"損失": [[0, 1.0, 1.0]]}


def test_a_peak_that_was_thinned_out_is_not_forgotten():
    reports = read(*[f"::metric a={9 if step == 333 else 1}" for step in range(2000)])
    assert 9 not in [value for _step, value, _seconds in curves(reports)["a"]]
    [chart], _more = run_charts(json.loads(reports.as_json()))
    assert (chart.line.lowest, chart.line.highest) == (1, 9)


# --- What is ignored is told ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("::progess 0.5", "spelled so"),
        (":: progress 0.5", "spelled so"),
        ("::Metric a=1", "spelled so"),
        ("::metrics a=1", "spelled so"),
        ("::progress: 0.5", "spelled so"),
        ("epoch 3 ::metric a=1", "nothing before"),
        ("50%|## |::progress 0.5", "nothing before"),
        ("::metric loss=abc", "finite number"),
        ("::metric a$=1", "letters, digits"),
        ("::progress half", "from 0 to 1"),
        ("::progress", "from 0 to 1"),
        ("::metric " + "a=1 " * 1100, "4096 bytes"),
    ],
)
def test_the_first_that_is_ignored_is_told_with_its_rule(line, rule):
    reports = read(line, "::progress x")
    assert reports.ignored >= 2
    [note] = reports.notes
    assert rule in note and line[:90] in note and note.startswith(f"{reports.ignored} ")
    assert in_words(note, note.kept) == note


@pytest.mark.parametrize(
    "line",
    ["std::process::exit", "::group::Build", "torch::metrics", "::error file=a.py", "std::map<int> m", "use ::metric"],
)
def test_what_only_looks_a_little_like_a_report_is_not_counted(line):
    assert read(line).notes == ()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3000))
def test_a_curve_is_thinned_evenly_and_ends_where_it_ends(gaps):
    curve, step, values = Curve(), 0, {}
    for number, gap in enumerate(gaps):
        step += gap
        values[step] = float(number)
        assert curve.add(step, float(number), 0.0)
    shown = curve.shown
    assert len(shown) <= MAX_POINTS
    assert (shown[0][0], shown[-1][0]) == (min(values), max(values))
    assert all(one[0] < other[0] for one, other in pairwise(shown))
    assert all(values[point[0]] == point[1] for point in shown)
    assert len(shown) == len(values) or len(shown) >= MAX_POINTS // 2


PIECES = ["::progress ", "::metric ", "step=", "a=", "0.5", "1e9", "nan", " ", "\n", "=", "\x00", "\x1b[", "日", "::"]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join).map(str.encode) | st.binary(max_size=300))
def test_garbage_breaks_nothing(raw):
    reports = read(raw)
    assert reports.fraction is None or 0 <= reports.fraction <= 1
    assert all(math.isfinite(value) for points in curves(reports).values() for point in points for value in point)
    assert reports.message.isprintable() and len(reports.message) <= MAX_MESSAGE


# --- From the output to the file -----------------------------------------------------------------------------------
@given(
    st.lists(
        st.sampled_from(["::progress 0.5 x", "::metric a=1", "text ::metric a=2", "\n", "\r", ":", ""]), max_size=30
    ),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_report_lines_are_found_however_the_output_is_cut(words, cuts):
    raw = "".join(words).encode()
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    lines = ReportLines()
    found = b"".join(lines.among(raw[start:end]) for start, end in pairwise(edges)) + lines.last()
    wanted = [line.strip() for line in raw.replace(b"\r", b"\n").split(b"\n")]
    assert found.splitlines() == [line for line in wanted if re.search(rb"::(progress|metric)", line)]


@pytest.mark.parametrize(
    "line", [b"  ::progress 1", b"\t::progress 1 ", b"\x1b[32m::progress 1\x1b[0m", b"\x1b[2K\r::progress 1"]
)
def test_blanks_and_colours_around_a_report_are_nothing(line):
    assert ReportLines().among(line + b"\n") == b"::progress 1\n"


def test_an_overlong_line_is_cut_and_little_of_it_is_held():
    lines = ReportLines()
    assert lines.among(b"::metric " + b"a=1 " * 100_000) == b""
    assert len(lines._rest) <= LONGEST_REPORT + 1
    found = lines.among(b"\n::metric b=2\n")
    assert (len(found.splitlines()[0]), found.splitlines()[1]) == (LONGEST_REPORT + 1, b"::metric b=2")


def test_reports_come_through_when_the_log_is_full(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    log = LogFile(folder, kept=100)
    for number in range(20_000):
        log.add(b"::metric step=%d a=1\n" % number)
    log.add(b"::progress 1")
    log.finish()
    os.close(folder)
    assert (tmp_path / "log").stat().st_size < 100 + TAIL_BYTES + 100
    assert (tmp_path / "reports").read_bytes().splitlines()[-2:] == [b"::metric step=19999 a=1", b"::progress 1"]


# --- To the database -----------------------------------------------------------------------------------------------
@pytest.fixture
def shipper(tmp_path):
    job = JobFactory(status="running")
    return ProgressShipper(tmp_path / "reports", job_id=job.pk, attempt=job.attempt)


def report(shipper, text, *, is_last=True):
    with shipper._source.open("a") as reports:
        reports.write(text)
    shipper.collect(is_last=is_last)
    shipper.ship(is_last=is_last)


@pytest.mark.django_db
def test_progress_and_curves_are_stored(shipper):
    shipper.collect()
    shipper.ship()
    assert not JobProgress.objects.exists()
    report(shipper, "::progress 0.5 half\n::metric a=1\n::metric a=x\n")
    row = JobProgress.objects.get()
    assert (row.attempt, row.fraction, row.message, row.ignored) == (1, 0.5, "half", 1)
    assert [(curve["name"], curve["points"][0][:2]) for curve in row.curves] == [("a", [0, 1.0])]


@pytest.mark.django_db
def test_what_did_not_change_or_was_just_written_is_not_written(shipper, django_assert_num_queries):
    with django_assert_num_queries(1):
        report(shipper, "::progress 0.5\n", is_last=False)
    with django_assert_num_queries(0):
        report(shipper, "::progress 0.6\n", is_last=False)  # too soon
    with django_assert_num_queries(1):
        report(shipper, "")  # the end: what waited
    with django_assert_num_queries(0):
        report(shipper, "")
    assert JobProgress.objects.get().fraction == 0.6


@pytest.mark.django_db
def test_the_time_of_the_fraction_moves_only_with_it(shipper):
    report(shipper, "::progress 0.5 a\n")
    first = JobProgress.objects.get()
    report(shipper, "::progress 0.5 b\n")
    second = JobProgress.objects.get()
    assert (second.fraction_at, second.message) == (first.fraction_at, "b")
    report(shipper, "::progress 0.6 b\n")
    assert JobProgress.objects.get().fraction_at >= second.fraction_at
    assert JobProgress.objects.get().updated_at > second.updated_at


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"status": "completed"}, {"status": "cancelled"}, {"attempt": 2}])
def test_who_no_longer_holds_the_job_writes_nothing(tmp_path, change):
    job = JobFactory(**{"status": "running", "attempt": 1, **change})
    shipper = ProgressShipper(tmp_path / "reports", job_id=job.pk, attempt=1)
    report(shipper, "::progress 0.5 zombie\n")
    assert not JobProgress.objects.exists()


@pytest.mark.django_db
def test_a_later_attempts_row_is_never_written_over(shipper):
    JobProgress.objects.create(job_id=shipper._job_id, attempt=2, fraction=0.1)
    report(shipper, "::progress 0.9 zombie\n")
    row = JobProgress.objects.get()
    assert (row.attempt, row.fraction, row.message) == (2, 0.1, "")


@pytest.mark.django_db
def test_a_later_attempt_begins_anew(shipper):
    report(shipper, "::progress 0.9 first\n::metric a=1\n")
    job = JobFactory(status="running", attempt=2)
    JobProgress.objects.update(job=job)
    second = ProgressShipper(shipper._source.with_name("second"), job_id=job.pk, attempt=2)
    report(second, "::progress 0.1 second\n")
    row = JobProgress.objects.get(job=job)
    assert (row.attempt, row.fraction, row.message, row.curves) == (2, 0.1, "second", [])


@pytest.mark.django_db
def test_a_flood_is_read_in_bounded_parts(shipper):
    with shipper._source.open("w") as reports:
        reports.writelines(f"::metric step={number} a=1\n" for number in range(100_000))
    shipper.collect()
    assert 0 < shipper._reports.curves["a"].count < 100_000
    shipper.collect(is_last=True)
    assert shipper._reports.curves["a"].count == 100_000


def test_reports_that_cannot_be_written_do_not_end_the_run(tmp_path):
    (tmp_path / "reports").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        log = LogFile(folder, 1000)
        log.add(b"::progress 0.5\nhello\n")
        log.finish()
    finally:
        os.close(folder)
    assert (tmp_path / "log").read_bytes() == b"::progress 0.5\nhello\n"
