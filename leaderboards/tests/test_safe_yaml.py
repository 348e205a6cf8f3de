"""YAML of strangers: merge keys are counted before anything is copied, also those that bring nothing."""

import pytest
import yaml

from leaderboards.safe_yaml import MAX_MERGES, load


def merging(count: int) -> str:
    # The merged mapping is empty: the bound on copied keys never sees it.
    return f"none: &none {{}}\nmany:\n  <<: [{', '.join(['*none'] * count)}]\n  key: 1\n"


def test_as_many_merges_as_allowed_are_read():
    assert load(merging(MAX_MERGES))["many"] == {"key": 1}


def test_one_merge_more_is_refused():
    with pytest.raises(yaml.YAMLError, match="too many merges"):
        load(merging(MAX_MERGES + 1))
