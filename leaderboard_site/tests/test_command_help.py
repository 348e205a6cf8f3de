"""Every command of ours teaches by examples, and those are ones that it understands."""

import re
import shlex
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import load_command_class

COMMANDS = sorted(
    (path.parts[-4], path.stem) for path in Path(settings.BASE_DIR).glob("*/management/commands/[a-z]*.py")
)


@pytest.mark.parametrize(("app", "name"), COMMANDS)
def test_help_has_examples_that_parse(app, name):
    command = load_command_class(app, name)
    parser = command.create_parser("manage.py", name)
    shown = parser.format_help()
    assert "examples:" in shown and len(command.help) > 30
    found = re.findall(rf"(?<!xargs )manage\.py {name}\b([^|>$)]*)", command.examples)
    assert found
    for arguments in found:
        words = shlex.split(re.split(r"\s{3,}", arguments.rstrip())[0].replace("[JOB...]", ""))
        parser.parse_args(words)
