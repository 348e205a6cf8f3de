"""A job's config laid over a config file: objects merge, everything else replaces, and `$replace` replaces objects too.

A job's config is JSON, so its names are text. Those of a YAML file may be numbers, true, null or dates: such a name is the
same as one that YAML would read as it.
"""

from collections.abc import Callable
from typing import Any

import yaml

from core.untrusted import BoundedLoader, Bounds

REPLACE = "$replace"
# Longer ones are names like any others.
_LONGEST_SCALAR = 64
_SCALAR = Bounds(bytes=_LONGEST_SCALAR * 4)


def _(sentence: str) -> str:
    """Mark a sentence for translation, which is done where the refusal is shown."""
    return sentence


class ConfigRefused(Exception):
    """A config that cannot be laid over a file. `sentence` % `values` is the reason in English, for translation."""

    def __init__(self, sentence: str, **values: Any) -> None:
        super().__init__(sentence % values)
        self.sentence, self.values = sentence, values


def check_replacements(config: dict[str, Any]) -> None:
    """Raise ConfigRefused, with the place, for a `$replace` that means nothing."""
    if REPLACE in config and not isinstance(config[REPLACE], dict):
        raise ConfigRefused(_("$replace at the top must hold an object"))
    waiting: list[tuple[str, Any, bool]] = [("", config, True)]
    while waiting:
        place, value, may_replace = waiting.pop()
        if isinstance(value, list):
            waiting += [(f"{place}[{index}]", inner, False) for index, inner in enumerate(value)]
        if not isinstance(value, dict):
            continue
        if REPLACE in value:
            shown = (place or "config").lstrip(".")[:200]
            if len(value) > 1:
                raise ConfigRefused(_("%(place)s: $replace must be the only name in its object"), place=shown)
            if not may_replace:
                raise ConfigRefused(_("%(place)s: $replace has no meaning in a list or another $replace"), place=shown)
            may_replace = False
        waiting += [(f"{place}.{name}"[:220], inner, may_replace) for name, inner in value.items()]


def merge(base: dict[Any, Any], over: dict[Any, Any]) -> dict[Any, Any]:
    """Return `over` laid over `base`; neither is changed. Raises ConfigRefused."""
    if REPLACE in over:
        replacement: dict[Any, Any] = over[REPLACE]
        return replacement
    merged = dict(base)
    find = _finder(base)
    given: dict[Any, str] = {}
    for name, value in over.items():
        key = find(name)
        if key in given:
            raise ConfigRefused(
                _("the config’s %(one)s and %(other)s are one name of the file, %(key)s: give only one of them"),
                one=repr(given[key]), other=repr(name), key=_shown(key),
            )  # fmt: skip
        given[key] = name
        earlier = merged.get(key)
        merged[key] = merge(earlier if isinstance(earlier, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def _finder(base: dict[Any, Any]) -> Callable[[str], Any]:
    """Return what finds the key of `base` that a name of JSON means; the name itself where there is none."""
    typed = {(type(key), key): key for key in base if not isinstance(key, str)}
    numbers = {key: key for key in base if isinstance(key, int | float) and not isinstance(key, bool)}

    def find(name: str) -> Any:
        if not typed or not isinstance(name, str):
            return name
        meant = _as_yaml(name)
        key = typed.get((type(meant), meant), name)
        if isinstance(key, str) and isinstance(meant, int | float) and not isinstance(meant, bool) and meant in numbers:
            raise ConfigRefused(
                _("the config’s name %(name)s and the file’s %(key)s are one number: write it as %(key)s"),
                name=repr(name), key=_shown(numbers[meant]),
            )  # fmt: skip
        if not isinstance(key, str) and name in base:
            raise ConfigRefused(
                _("the config’s name %(name)s may be the file’s %(key)s or its %(name)s in quotes"),
                name=repr(name), key=_shown(key),
            )  # fmt: skip
        return key

    return find


def _as_yaml(name: str) -> Any:
    """Return the value that YAML reads an unquoted word as; the text itself for anything longer or wrong."""
    if len(name) > _LONGEST_SCALAR:
        return name
    loader = BoundedLoader("", _SCALAR)
    try:
        tag = loader.resolve(yaml.ScalarNode, name, (True, False))
        return loader.construct_object(yaml.ScalarNode(tag, name, yaml.Mark("", 0, 0, 0, None, 0)))
    except (yaml.YAMLError, ValueError):
        return name
    finally:
        loader.dispose()


def _shown(key: Any) -> str:
    """Return the key as YAML writes it."""
    if key is None:
        return "null"
    return str(key).lower() if isinstance(key, bool) else str(key)
