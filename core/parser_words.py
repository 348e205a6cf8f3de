"""The commonest complaints of PyYAML and `json`, as sentences that can be translated. Others stay in English."""

import re


def _(sentence: str) -> str:
    """Mark a sentence for translation, which is done where the refusal is shown."""
    return sentence


# As the parsers write them; what stands for `%(found)s` stays as it is.
_SENTENCES = (
    # PyYAML
    _("mapping values are not allowed here"),
    _("mapping keys are not allowed here"),
    _("sequence entries are not allowed here"),
    _("could not find expected ':'"),
    _("found unexpected end of stream"),
    _("found unexpected document separator"),
    _("found unhashable key"),
    _("invalid indentation or unclosed '[' or '{'"),
    _("found unknown escape character %(found)s"),
    _("found undefined alias %(found)s"),
    _("found character %(found)s that cannot start any token"),
    _("expected the node content, but found %(found)s"),
    _("expected <block end>, but found %(found)s"),
    _("expected '<document start>', but found %(found)s"),
    _("expected ',' or '}', but got %(found)s"),
    _("expected ',' or ']', but got %(found)s"),
    _("expected alphabetic or numeric character, but found %(found)s"),
    _("expected a comment or a line break, but found %(found)s"),
    _("expected chomping or indentation indicators, but found %(found)s"),
    _("could not determine a constructor for the tag %(found)s"),
    # json
    _("Expecting value"),
    _("Expecting ',' delimiter"),
    _("Expecting ':' delimiter"),
    _("Expecting property name enclosed in double quotes"),
    _("Unterminated string starting at"),
    _("Illegal trailing comma before end of object"),
    _("Illegal trailing comma before end of array"),
    _("Invalid control character at"),
    _("Invalid \\escape"),
    _("Invalid \\uXXXX escape"),
    _("Extra data"),
)
_FORMS = {
    sentence: re.compile(re.escape(sentence).replace(re.escape("%(found)s"), "(?P<found>.+)"), re.DOTALL)
    for sentence in _SENTENCES
}


def in_parts(problem: str) -> tuple[str, dict[str, str]]:
    """Return the sentence of the catalogue that the parser's complaint is, with what it found."""
    for sentence, form in _FORMS.items():
        if match := form.fullmatch(problem):
            return sentence, match.groupdict()
    return "%(problem)s", {"problem": problem}
