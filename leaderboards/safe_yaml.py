"""YAML that strangers wrote, read by PyYAML's safe loader and a few rules more: small files stay cheap, and wrong ones are refused."""

from typing import Any

import yaml

# PyYAML's own errors, and what its constructors stumble over in values that are none: `!!int ''`, `!!bool maybe`, an hour
# of 99, a key that cannot be one.
WRONG_YAML = (
    yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
MAX_MERGED_KEYS = 10_000
MAX_MERGES = 100
LONGEST_NUMBER = 400
_MERGE = "tag:yaml.org,2002:merge"


class StrangersLoader(yaml.SafeLoader):
    """Bounded where a few lines would do much: merge keys (`<<`) that copy each other, and numbers to base 60."""

    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        before, merges = len(node.value), 0
        for key, value in node.value:
            if key.tag == _MERGE:
                # Counted before anything is copied: a list of merges is as long as its author likes.
                merges += len(value.value) if isinstance(value, yaml.SequenceNode) else 1
        if merges > MAX_MERGES:
            raise yaml.constructor.ConstructorError(None, None, "too many merges", node.start_mark)
        super().flatten_mapping(node)
        self.merged += max(0, len(node.value) - before)
        if self.merged > MAX_MERGED_KEYS:
            raise yaml.constructor.ConstructorError(None, None, "too many merged keys", node.start_mark)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if len(node.value) > LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, "a number with too many digits", node.start_mark)
        if node.tag.endswith(":int"):
            return int(self.construct_yaml_int(node))
        return float(self.construct_yaml_float(node))


for _kind in ("int", "float"):
    StrangersLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", StrangersLoader.construct_number)


def load(text: str | bytes) -> Any:
    """The one document's value. Raises one of WRONG_YAML."""
    return yaml.load(text, StrangersLoader)  # noqa: S506 - a safe loader
