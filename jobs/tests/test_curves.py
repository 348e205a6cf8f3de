"""Curves as geometry, and series found in files that strangers wrote."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import series_files
from jobs.curves import DRAWN_POINTS, MOST_LINES, MOST_RUN_CHARTS, draw, run_charts, thinned
from jobs.series_files import MAX_BYTES, MAX_CHARTS, MAX_COLUMNS, MAX_NUMBERS, MAX_ROWS, can_be_drawn, charts_of


def found(path: str, content: object) -> dict[str, dict[str, int]]:
    """Of each chart its lines with how many points they have."""
    raw = (
        content
        if isinstance(content, bytes)
        else content.encode()
        if isinstance(content, str)
        else json.dumps(content).encode()
    )
    return {chart.name: {line.name: line.count for line in chart.lines} for chart in charts_of(path, raw).charts}


# --- Drawing -------------------------------------------------------------------------------------------------------
def test_a_line_goes_from_the_first_point_to_the_last():
    (line,) = draw("loss", {"loss": [(0, 1.0), (5, 0.25), (10, 0.5)]}).lines
    assert line.path == "M50 18.4L200 157.6L350 111.2"
    assert (line.first, line.last, line.lowest, line.highest, line.count) == ((0, 1.0), (10, 0.5), 0.25, 1.0, 3)
    assert (line.end_x, line.end_y) == (350.0, 111.2)


@pytest.mark.parametrize(
    "points", [[(3, 0.5)], [(0, 7.0), (1, 7.0)], [(5, 0.0), (5, 0.0)], [(0, -1e15), (1, 1e15)], [(1e15, 1e-9)]]
)
def test_flat_and_single_and_huge_curves_are_drawn_inside(points):
    chart = draw("x", {"x": points})
    for point in chart.lines[0].path.removeprefix("M").split("L"):
        x, y = map(float, point.split())
        assert chart.left <= x <= chart.right and 0 <= y <= chart.height
    assert chart.y_ticks


def test_a_long_curve_is_thinned_to_what_can_be_seen():
    points = [(float(number), float(number)) for number in range(1000)]
    shown = thinned(points)
    assert (len(shown), shown[0], shown[-1]) == (DRAWN_POINTS, points[0], points[-1])
    assert len(draw("x", {"x": points}).lines[0].path.split("L")) == DRAWN_POINTS
    assert thinned(points[:5]) == points[:5]


def test_lines_are_laid_over_each_other_on_one_scale_and_bounded():
    series = {f"s{number}": [(0.0, float(number)), (1.0, float(number))] for number in range(MOST_LINES + 3)}
    chart = draw("x", series)
    assert [line.number for line in chart.lines] == list(range(MOST_LINES))
    heights = [line.end_y for line in chart.lines]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == MOST_LINES
    assert [line.number for line in draw("x", {"a": [(0, 1)], "b": [(0, 2)]}, numbers=[2, 5]).lines] == [2, 5]


def test_charts_of_a_run_leave_empty_curves_out():
    charts, more = run_charts([{"name": "a", "points": [[0, 0.5, 0.1], [1, 0.25, 0.2]]}, {"name": "b", "points": []}])
    assert [(chart.name, chart.line.last) for chart in charts] == [("a", (1.0, 0.25))]
    assert more == 0


def test_of_many_curves_the_first_are_drawn():
    charts, more = run_charts([{"name": f"m{number}", "points": [[0, 0.5, 0.1]]} for number in range(200)])
    assert (len(charts), more) == (MOST_RUN_CHARTS, 200 - MOST_RUN_CHARTS)


# --- CSV -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "series"),
    [
        ("epoch,loss,auc\n0,1.0,0.5\n1,0.5,0.6\n", {"loss": {"loss": 2}, "auc": {"auc": 2}}),
        ("\ufeffstep;loss\r\n0;1\r\n1;2\r\n2;nan\r\n", {"loss": {"loss": 2}}),
        ("1\t2\n3\t4\n", {"1": {"1": 2}, "2": {"2": 2}}),
        ("name,score\na,0.1\nb,0.2\n", {"score": {"score": 2}}),
        ("name,kind\na,b\nc,d\n", {}),
        ("a,b\n1\n2\n", {"a": {"a": 2}}),
        ("a\n1\n", {}),
        ('a\n"1\n', {}),
        ("", {}),
        ("a,a\n1,2\n3,4\n", {"a": {"a": 2}}),
    ],
)  # fmt: skip
def test_columns_of_numbers_are_curves(text, series):
    assert found("x.CSV", text) == series


def test_a_column_that_steps_is_the_axis_only_while_it_rises():
    assert charts_of("x.csv", b"epoch,loss\n10,1\n20,2\n").charts[0].line.first == (10.0, 1.0)
    over_rows = charts_of("x.csv", b"epoch,loss\n20,1\n10,2\n").charts
    assert [chart.name for chart in over_rows] == ["epoch", "loss"] and over_rows[1].line.first == (0.0, 1.0)


# --- JSON ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("document", "series"),
    [
        ([1, 2, 3], {"1": {"1": 3}}),
        ({"loss": [1, 0.5], "words": ["a", "b"], "n": 3}, {"loss": {"loss": 2}}),
        ({"loss": [[0, 1.0], [1, 0.5]]}, {"loss": {"loss": 2}}),
        ([{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5}], {"loss": {"loss": 2}}),
        (
            {"roc": {"x_label": "fpr", "curves": {"a": {"x": [0, 1], "y": [0, 1]}, "b": {"x": [0, 1], "y": [1, 1]}}}},
            {"roc.curves": {"a": 2, "b": 2}},
        ),
        ({"x": [0, 1, 2], "y": [1, 2, 3]}, {"1": {"1": 3}}),
        ({"x": [0, 1], "y": [1]}, {"x": {"x": 2}}),
        ({"a": [1], "b": [None, 1], "c": [True, 1], "d": [[1, 2, 3], [4, 5, 6]], "e": [1e308, 10**400]}, {}),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": [1, 2]}}}}}}}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_series_in_json_are_curves(document, series):
    assert found("a/b.json", document) == series


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, "nul", "1", '"x"', "[NaN, 1]", "[1, Infinity]"])
def test_what_is_no_json_has_no_curves(text):
    assert found("x.json", text) == {}


def test_there_are_only_so_many_charts_and_rows():
    many = charts_of("x.json", json.dumps({f"c{number}": [1, 2] for number in range(100)}).encode())
    assert (len(many.charts), many.is_cut) == (MAX_CHARTS, True)
    long = charts_of("x.csv", b"a\n" + b"1\n" * (MAX_ROWS + 100))
    assert ([chart.line.count for chart in long.charts], long.is_cut) == ([MAX_ROWS], True)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("x.csv", "a\n" + "1\n" * MAX_ROWS),
        ("x.csv", "1\n" * MAX_ROWS),
        ("x.json", json.dumps([1] * MAX_ROWS)),
        ("x.json", json.dumps({f"c{number}": [1, 2] for number in range(MAX_CHARTS)})),
    ],
    ids=["rows", "rows without a head", "a list", "charts"],
)
def test_a_file_just_within_the_limits_is_drawn_whole(path, content):
    assert not charts_of(path, content.encode()).is_cut


FULL = {
    "columns": ("x.csv", (",".join(["1"] * 25) + "\n") * 20_000),
    "one row": ("x.csv", "1," * 500_000),
    "empty lines": ("x.csv", "\n" * MAX_BYTES),
    "lists": ("x.json", json.dumps({f"c{number}": [1] * 15_000 for number in range(20)})),
    "pairs": ("x.json", json.dumps({f"c{number}": [[1, 2]] * 6_000 for number in range(20)})),
    "objects of x and y": ("x.json", json.dumps({f"c{n}": {"x": [1] * 9_000, "y": [1] * 9_000} for n in range(16)})),
    "objects": ("x.json", json.dumps([{f"c{n % 50}": 1} for n in range(50_000)])),
    "words after numbers": ("x.json", json.dumps({f"c{number}": [1] * 9_000 + ["a"] for number in range(30)})),
}


@pytest.mark.parametrize("name", FULL)
def test_a_file_of_the_largest_size_is_read_only_so_far(name, monkeypatch):
    """Count: each number that is read passes `_finite`, and each that is drawn is part of a line."""
    path, text = FULL[name]
    counted = 0

    def count(value, finite=series_files._finite):
        nonlocal counted
        counted += 1
        return finite(value)

    monkeypatch.setattr(series_files, "_finite", count)
    drawn = charts_of(path, text.encode()[:MAX_BYTES])
    assert counted <= MAX_NUMBERS + MAX_COLUMNS
    assert sum(line.count for chart in drawn.charts for line in chart.lines) <= MAX_NUMBERS


@given(st.binary(max_size=300) | st.text(alphabet='0123456789.,;\t\n"[]{}:exyN-', max_size=300).map(str.encode))
def test_any_bytes_are_survived(raw):
    for path in ("x.csv", "x.json"):
        charts_of(path, raw)


@pytest.mark.parametrize(
    ("path", "size", "can"),
    [("a.csv", 10, True), ("a.JSON", 10, True), ("a.txt", 10, False), ("a.csv", 0, False), ("a.csv", 2**20 + 1, False)],
)
def test_only_small_tables_are_drawn(path, size, can):
    assert can_be_drawn(path, size) is can


def test_the_table_beside_a_chart_is_short_and_has_both_ends():
    points = [(float(step), step / 10) for step in range(1000)]
    line = draw("loss", {"a": points}).line
    assert (len(line.table), line.table[0], line.table[-1]) == (24, points[0], points[-1])
    several = draw("loss", {f"job {number}": points for number in range(8)})
    assert [len(line.table) for line in several.lines] == [2] * 8
    assert draw("loss", {"a": points[:2]}).line.table == points[:2]
