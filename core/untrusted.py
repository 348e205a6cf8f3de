"""Read YAML and JSON from outside, bounded while they are scanned, by PyYAML's safe loader and `json`.

PyYAML's scanner takes quadratic time for open brackets, and its constructors for long numbers to base 60, for merge keys
and for numeric names with equal hashes. So each text is counted before anything is built from it: JSON in one pass of a
regular expression, YAML by the scanner itself, which stops at the first token beyond a bound. A second scanner for YAML
would be cheaper but could be deceived; here the scanner that counts is the one that reads.

Every refusal is a `TextRefused`, which names the rule, the value and the line.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from core.names import printable
from core.parser_words import in_parts
from core.sizes import bytes_beyond, human_bytes

DEEPEST = 64
LONGEST_NUMBER = 400
# Up to this length, numbers hash to themselves. Many longer ones can share one hash, which makes a dict quadratic.
LONGEST_NUMBER_AS_NAME = 17
MOST_MERGES = 100
MOST_MERGED_NAMES = 10_000

_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
# What PyYAML's constructors raise for wrong values: `!!int ''`, `!!bool maybe`, an hour of 99.
_STUMBLES = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
# One token at a time, without going back over a character: the quantifiers are possessive.
_JSON_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[{\]},:]|[-0-9][0-9.eE+-]*+', re.DOTALL)
# Escapes that may stand for a character that PostgreSQL cannot store.
_JSON_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|[\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _(sentence: str) -> str:
    """Mark a sentence for translation, which is done where the refusal is shown."""
    return sentence


_TOO_DEEP = _("it is nested deeper than %(most)d levels")
_TOO_MANY = _("it has more than %(most)d names, values and symbols")
_TOO_LONG = _("the number %(value)s... has more than %(most)d characters")


@dataclass(frozen=True)
class Bounds:
    """Limits of a text. The defaults suit a config that is read while a request waits."""

    bytes: int
    # Names, values, brackets, commas and the like.
    tokens: int = 50_000
    depth: int = DEEPEST
    aliases: int = 0
    # Whether to refuse what PostgreSQL's jsonb cannot hold: NUL, lone surrogates and numbers that are not finite.
    storable: bool = True


class TextRefused(ValueError):
    """A text is not YAML or JSON, or exceeds a bound. `sentence` % `values` is the reason in English, for translation."""

    def __init__(self, sentence: str, *, rule: str, line: int | None = None, place: str = "", **values: Any) -> None:
        super().__init__(sentence % values)
        self.sentence, self.values = sentence, values
        self.rule, self.line, self.place = rule, line, place

    @property
    def is_syntax(self) -> bool:
        """Return whether the text is malformed; otherwise it exceeds a bound."""
        return self.rule == "syntax"


# --- JSON ------------------------------------------------------------------------------------------------------------
def load_json(text: str | bytes, bounds: Bounds, **options: Any) -> Any:
    """Return the value. `options` are those of `json.loads`. Raises TextRefused, and whatever hooks in the options raise."""
    _check_size(text, bounds)
    if isinstance(text, bytes):
        text = _decoded(text)
    _scan_json(text, bounds)
    if bounds.storable:
        options["parse_constant"] = _refuse_constant
    try:
        value = json.loads(text, **options)
    except json.JSONDecodeError as error:
        sentence, values = in_parts(error.msg)
        raise TextRefused(sentence, rule="syntax", line=error.lineno, **values) from error
    if bounds.storable and _JSON_UNSTORABLE.search(text):
        refuse_unstorable(value)
    return value


def refuse_unstorable(value: Any) -> None:
    """Raise TextRefused, with the place, if a text in this parsed JSON cannot be stored."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        place, inner = waiting.pop()
        if isinstance(inner, dict):
            for name, below in inner.items():
                waiting += [(place, name), (f"{place}.{name}"[:200], below)]
        elif isinstance(inner, list):
            waiting += [(f"{place}[{index}]"[:200], below) for index, below in enumerate(inner)]
        elif isinstance(inner, str) and (problem := unstorable(inner)):
            raise TextRefused(problem, rule="storable", place=printable(place.lstrip(".")))


def unstorable(text: str) -> str:
    """Return why PostgreSQL cannot store the text; empty if it can."""
    if "\0" in text:
        return _("a text holds the character NUL")
    return _("a text holds half of a character (a lone surrogate)") if _SURROGATE.search(text) else ""


def storable_json_bytes(value: Any) -> int:
    """Return the length of a parsed value as JSON, in bytes. Raises ValueError, with the rule, if jsonb cannot hold it."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _JSON_UNSTORABLE.search(text):
        refuse_unstorable(value)
    return len(text.encode())


def _check_size(text: str | bytes, bounds: Bounds) -> None:
    size = len(text)
    if isinstance(text, str) and size <= bounds.bytes and not text.isascii():
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > bounds.bytes:
        sentence = _("it has %(size)s, more than %(most)s")
        raise TextRefused(sentence, rule="bytes", size=bytes_beyond(size, bounds.bytes), most=human_bytes(bounds.bytes))


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TextRefused(_("it is not UTF-8"), rule="syntax", line=line) from error


def _scan_json(text: str, bounds: Bounds) -> None:
    """Bound the depth, the tokens and the length of numbers. A string is one token."""
    depth = 0
    for tokens, matched in enumerate(_JSON_TOKEN.finditer(text), start=1):
        first = matched[0][0]
        if first in "[{":
            depth += 1
        elif first in "]}":
            depth -= 1
        problem = None
        if depth > bounds.depth:
            problem = TextRefused(_TOO_DEEP, rule="depth", most=bounds.depth)
        elif tokens > bounds.tokens:
            problem = TextRefused(_TOO_MANY, rule="tokens", most=bounds.tokens)
        elif first not in '"[{]},:' and len(matched[0]) > LONGEST_NUMBER:
            problem = TextRefused(_TOO_LONG, rule="number", value=matched[0][:20], most=LONGEST_NUMBER)
        if problem:
            problem.line = text.count("\n", 0, matched.start()) + 1
            raise problem


def _refuse_constant(name: str) -> None:
    raise TextRefused(_("%(value)s is not a finite number"), rule="storable", value=name)


# --- YAML ------------------------------------------------------------------------------------------------------------
def load_yaml(text: str | bytes, bounds: Bounds, kind: "type[BoundedLoader] | None" = None) -> Any:
    """Return the value of the only document; None if it is empty. Raises TextRefused."""
    return _read_yaml(text, bounds, kind, "get_single_data")


def compose_yaml(text: str | bytes, bounds: Bounds) -> yaml.Node | None:
    """Return the nodes of the only document. No values are built, so tags may be unknown. Raises TextRefused."""
    node: yaml.Node | None = _read_yaml(text, bounds, None, "get_single_node")
    return node


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with a scanner that counts and stops at the first token beyond a bound."""

    def __init__(self, text: str | bytes, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counted = self.aliases = self.merged = 0
        super().__init__(text)

    def fetch_more_tokens(self) -> None:
        super().fetch_more_tokens()
        self.counted += 1
        # All open levels: the scanner's work for one token is proportional to the open brackets.
        if self.flow_level + len(self.indents) > self.bounds.depth:
            self.refuse(_TOO_DEEP, "depth", most=self.bounds.depth)
        if self.counted > self.bounds.tokens:
            self.refuse(_TOO_MANY, "tokens", most=self.bounds.tokens)
        token = self.tokens[-1]
        if isinstance(token, yaml.AliasToken):
            self.aliases += 1
            if self.aliases > self.bounds.aliases:
                sentence = _("it has more than %(most)d aliases (*name)")
                self.refuse(sentence if self.bounds.aliases else _("aliases (*name) are not accepted"), "aliases",
                            most=self.bounds.aliases)  # fmt: skip
        elif isinstance(token, yaml.DirectiveToken) and token.name == "TAG":
            # Its prefix would be copied into each tag that uses it.
            self.refuse(_("TAG directives are not accepted"), "directives")
        elif self.bounds.storable and isinstance(token, yaml.ScalarToken) and (problem := unstorable(token.value)):
            self.refuse(problem, "storable")

    def refuse(self, sentence: str, rule: str, node: yaml.Node | None = None, **values: Any) -> NoReturn:
        """Raise TextRefused with the line of the node, or the line that the scanner has reached."""
        line = node.start_mark.line if node else self.line
        raise TextRefused(sentence, rule=rule, line=line + 1, **values)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            self.refuse(_TOO_LONG, "number", node, value=str(node.value)[:20], most=LONGEST_NUMBER)
        try:
            return super().construct_object(node, deep)
        except TextRefused:
            raise
        except _STUMBLES:
            self.refuse("%(problem)s", "syntax", node, problem=f"not a value of {node.tag.removeprefix(_TAG)}")

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            self.flatten_mapping(node)  # first, so that merged names are checked too
            for key, _value in node.value:
                if key.tag in _NUMBERS and len(key.value) > LONGEST_NUMBER_AS_NAME:
                    sentence = _("the number %(value)s... is used as a name and has more than %(most)d characters")
                    self.refuse(sentence, "number", key, value=key.value[:20], most=LONGEST_NUMBER_AS_NAME)
        made: dict[Any, Any] = super().construct_mapping(node, deep)  # type: ignore[arg-type]
        return made

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Count the merges before anything is copied: their list can have any length."""
        sources = [source for key, value in node.value if key.tag == f"{_TAG}merge" for source in _sources(value)]
        if len(sources) > MOST_MERGES:
            self.refuse(_("a mapping has more than %(most)d merges (<<)"), "merges", node, most=MOST_MERGES)
        for source in sources:
            if isinstance(source, yaml.MappingNode):
                self.flatten_mapping(source)
                self.merged += len(source.value)
        if self.merged > MOST_MERGED_NAMES:
            sentence = _("merges (<<) copy more than %(most)d names")
            self.refuse(sentence, "merges", node, most=MOST_MERGED_NAMES)
        super().flatten_mapping(node)


def _sources(value: yaml.Node) -> list[yaml.Node]:
    return list(value.value) if isinstance(value, yaml.SequenceNode) else [value]


def _read_yaml(text: str | bytes, bounds: Bounds, kind: type[BoundedLoader] | None, read: str) -> Any:
    _check_size(text, bounds)
    try:
        loader = (kind or BoundedLoader)(text, bounds)
        try:
            return getattr(loader, read)()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        if error.context == "expected a single document in the stream":
            raise TextRefused(_("only one document is read"), rule="documents", line=_line(error)) from error
        sentence, values = in_parts(str(error.problem))
        raise TextRefused(sentence, rule="syntax", line=_line(error), **values) from error
    except yaml.reader.ReaderError as error:
        if not isinstance(error.character, int) or not isinstance(text, str):
            raise TextRefused(_("it is not UTF-8"), rule="syntax") from error
        line = text.count("\n", 0, error.position) + 1
        sentence = _("it holds the character %(character)s, which is not allowed")
        raise TextRefused(sentence, rule="syntax", line=line, character=f"U+{error.character:04X}") from error
    except RecursionError as error:
        raise TextRefused(_("it refers to itself"), rule="syntax") from error
    except TextRefused:
        raise
    except _STUMBLES as error:
        raise TextRefused(_("a value is not what its tag says"), rule="syntax") from error


def _line(error: yaml.MarkedYAMLError) -> int | None:
    return error.problem_mark.line + 1 if error.problem_mark else None
