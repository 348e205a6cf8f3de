"""What a scorer reports becomes sentences of the platform, in the reader's language; nothing else is believed."""

import json

import pytest
from django.utils import translation

from jobs.execution.told import Told, kept
from jobs.models import Job
from jobs.scorer_faults import MOST_FAULTS, SENTENCES, refusal
from jobs.tests.factories import JobFactory
from jobs.wording import in_words, lines_in_words

UNKNOWN = {
    "id": "unknown",
    "values": {"key": "id", "total": 4},
    "count": 37,
    "examples": [{"name": "検査　1.png", "line": 2}, {"name": "a\u202eb", "line": 3}],
}


def fault(name):
    """A fault as a scorer reports it, whatever its gaps."""
    sentence = SENTENCES[name]
    values = {gap: 7 if kind is int else "x" for gap, kind in sentence.values.items()}
    example = {gap: 7 if kind is int else "x" for gap, kind in sentence.of_example.items()}
    return {"id": name, "values": values, "count": 1} | ({"examples": [example]} if example else {})


@pytest.mark.parametrize("name", SENTENCES)
def test_every_fault_is_said_in_both_languages(name):
    sentence = refusal([fault(name)])
    stored = json.loads(json.dumps(kept(sentence)))
    with translation.override("en"):
        assert in_words(sentence, stored) == sentence
    with translation.override("ja"):
        assert in_words(sentence, stored) != sentence


def test_faults_are_counted_and_their_names_are_text():
    sentence = refusal([UNKNOWN, fault("no_table")])
    assert sentence == (
        "predictions.csv: id must be one of the 4 of this leaderboard, "
        "not '検査　1.png' (line 2), 'a\\u202eb' (line 3), and 35 more; predictions/predictions.csv is missing"
    )
    with translation.override("ja"):
        assert lines_in_words(sentence, kept(sentence)) == [
            "predictions.csv：id がこのリーダーボードの4件にありません：'検査　1.png'（2行目）、'a\\u202eb'（3行目）、ほか35件",
            "predictions/predictions.csv がありません",
        ]


def test_a_scorers_own_words_are_shown_as_written_and_bounded():
    assert refusal("3 of 40 ids\nare missing") == "3 of 40 ids are missing"
    assert refusal(["画像がありません。", "b" * 300]) == f"画像がありません。; {'b' * 199}…"
    many = [f"fault {number}" for number in range(1000)]
    assert refusal(many) == "; ".join([*many[:MOST_FAULTS], "and 980 more"])


@pytest.mark.parametrize(
    "reported",
    [
        None, 3, "", " \n", [], [""], ["a", 3], {}, {"id": "gone"}, {"id": ["unknown"]},
        UNKNOWN | {"values": {"key": "id"}},
        UNKNOWN | {"values": {"key": "id", "total": "4"}},
        UNKNOWN | {"values": {"key": "id", "total": True}},
        UNKNOWN | {"values": {"key": "id", "total": -1}},
        UNKNOWN | {"values": {"key": "id", "total": 4, "label": "cat"}},
        UNKNOWN | {"values": []},
        UNKNOWN | {"count": 10**400},
        UNKNOWN | {"count": 0},
        UNKNOWN | {"examples": []},
        UNKNOWN | {"examples": "ab"},
        UNKNOWN | {"examples": [{"name": "a"}]},
        UNKNOWN | {"examples": [{"name": "a", "line": 1}] * 4},
        UNKNOWN | {"examples": [{"name": {"text": "%(x)s"}, "line": 1}]},
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_is_no_refusal(reported):
    assert refusal(reported) is None


def test_texts_of_a_report_are_never_templates():
    sentence = refusal([UNKNOWN | {"count": 1, "examples": [{"name": "%(total)s %d", "line": 2}]}])
    with translation.override("ja"):
        assert "'%(total)s %d'（2行目）" in in_words(sentence, kept(sentence))


def test_a_long_report_stays_short():
    long = fault("column") | {"values": {"column": "あ" * 10_000, "head": "\x00" * 10_000}}
    assert len(refusal([long] * 1000)) < 20 * 300


@pytest.mark.django_db
def test_the_jobs_page_lists_the_faults_in_the_readers_language(client):
    message = Told("metrics.json: %(why)s.", why=refusal([UNKNOWN, fault("no_table"), "自由な文"]))
    job = JobFactory(status="failed", error_code="bad_metrics", error_message=message, error_told=kept(message))
    client.force_login(job.user)
    for language, said in (("en", "predictions/predictions.csv is missing"), ("ja", "predictions.csv がありません")):
        html = client.get(job.get_absolute_url(), headers={"accept-language": language}).content.decode()
        items = html.partition('id="faults">')[2].partition("</ul>")[0].split("</li>")[:-1]
        assert (len(items), said in items[1], items[2]) == (3, True, "<li>自由な文")
    assert Job(error_message="as it was written").error_lines == ["as it was written"]
