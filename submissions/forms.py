"""The form with which people send code in."""

import json
from typing import Any, cast
from uuid import UUID, uuid4

import yaml
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.refusals import RequestRefused
from core.config_merge import ConfigRefused, check_replacements
from core.sizes import human_bytes
from core.untrusted import Bounds, TextRefused, compose_yaml, load_json, load_yaml
from leaderboards.models import Leaderboard
from submissions.contents import read_config_file
from submissions.models import NAME_MAX_LENGTH, Submission

CONFIG_MAX_CHARACTERS = 64 * 1024
PATHS_MAX_CHARACTERS = 64 * 1024
_OVERRIDES = Bounds(bytes=4 * CONFIG_MAX_CHARACTERS)
# The run reads its config file itself, so text that only the database cannot store is no mistake in it.
_CONFIG_FILE = Bounds(bytes=4 * CONFIG_MAX_CHARACTERS, aliases=1000, storable=False)


class FilesInput(forms.ClearableFileInput):
    template_name = "django/forms/widgets/file.html"
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One or more files; what they must be is decided by create_submission."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        files = data if isinstance(data, list | tuple) else [data]
        one = super().clean
        return [one(file, initial) for file in files] if files else [one(None, initial)]


def parse_config(text: str) -> dict[str, Any]:
    """A mapping from JSON or YAML (which JSON is a part of); nothing for an empty text."""
    if not text.strip():
        return {}
    try:
        parsed = load_json(text, _OVERRIDES)
    except TextRefused:
        parsed = _parse_yaml(text)
    if not isinstance(parsed, dict):
        raise ValidationError(_("Must be a mapping: names with values, such as “epochs: 5”."))
    try:
        check_replacements(parsed)
    except ConfigRefused as refusal:
        raise ValidationError(
            _("Not accepted: %(problem)s.") % {"problem": _(refusal.sentence) % refusal.values}
        ) from refusal
    try:
        json.dumps(parsed, allow_nan=False)
    except ValueError as error:  # said here, before the files are stored and counted
        problem = _("numbers must be finite, not infinity or NaN")
        raise ValidationError(_("Not accepted: %(problem)s.") % {"problem": problem}) from error
    return parsed


def config_problem(text: str, name: str) -> str:
    """Why a config file of that name could not be read, with the line; empty when it can. Nothing is built of it."""
    try:
        if name.endswith(".json"):
            is_mapping = isinstance(load_json(text or "{}", _CONFIG_FILE), dict)
        else:
            node = compose_yaml(text, _CONFIG_FILE)
            is_mapping = node is None or isinstance(node, yaml.MappingNode)
    except TextRefused as error:
        if name.endswith(".json"):
            return _in_words(error, _("Line %(line)d is not JSON: %(problem)s."))
        return _in_words(error, _("Line %(line)d is not YAML: %(problem)s."))
    return "" if is_mapping else _("Must be a mapping: names with values, such as “epochs: 5”.")


def _parse_yaml(text: str) -> Any:
    try:
        parsed = load_yaml(text, _OVERRIDES)
        # As JSON, which is how it is stored: dates become text here and not an error later.
        return json.loads(json.dumps(parsed, default=str))
    except TextRefused as error:
        malformed = _("Line %(line)d is neither JSON nor YAML: %(problem)s.")
        raise ValidationError(_in_words(error, malformed)) from error
    except (TypeError, ValueError) as error:  # a name that JSON cannot have, such as a date
        raise ValidationError(_("This is neither JSON nor YAML.")) from error


def _in_words(error: TextRefused, malformed: str) -> str:
    """Return the sentence for a refusal; `malformed` is the one for a line that cannot be read."""
    if error.rule == "aliases" and not error.values["most"]:
        return _("YAML aliases are not accepted here: write the values out.")
    if error.rule == "documents":
        return _("Only one document is read: remove the lines with ---.")
    said = {"line": error.line, "problem": _(error.sentence) % error.values}
    if error.line is None:
        return _("This is neither JSON nor YAML.") if error.is_syntax else _("Not accepted: %(problem)s.") % said
    return (malformed if error.is_syntax else _("Line %(line)d is not accepted: %(problem)s.")) % said


class RunForm(forms.Form):
    """How a submission is run."""

    resource_class = forms.ChoiceField(label=gettext_lazy("Resource class"), initial="small")
    config = forms.CharField(
        label=gettext_lazy("Config overrides"),
        required=False,
        max_length=CONFIG_MAX_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "placeholder": "epochs: 5\nbackbone: resnet18"}),
        help_text=gettext_lazy("JSON or YAML, laid over your config file for this run. Empty: the file as it is."),
    )
    trial = forms.BooleanField(
        label=gettext_lazy("Trial run"),
        required=False,
        help_text=gettext_lazy("It runs and is shown to you, and never ranks. It counts against your quota."),
    )
    # Sent twice, by a double click or a reload, it starts one job.
    key = forms.CharField(widget=forms.HiddenInput, max_length=64, initial=lambda: uuid4().hex)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        resource_class = cast(forms.ChoiceField, self.fields["resource_class"])
        resource_class.choices = [
            (name, _("%(name)s: %(minutes)d minutes, %(memory)s") % _limits(name)) for name in settings.RESOURCE_CLASSES
        ]
        for name, field in self.fields.items():
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"id_{name}_help"

    def full_clean(self) -> None:
        super().full_clean()
        for name in self.errors:
            self._mark_wrong(name)

    def _mark_wrong(self, name: str) -> None:
        """Say to screen readers that the field is wrong, and where the reason stands."""
        if name in self.fields:
            attributes = {"aria-invalid": "true", "aria-describedby": f"id_{name}_error id_{name}_help"}
            self.fields[name].widget.attrs.update(attributes)

    def clean_config(self) -> dict[str, Any]:
        return parse_config(self.cleaned_data["config"])

    def add_refusal(self, refusal: RequestRefused) -> None:
        """A service's refusal beside the field that it is about, or above the form."""
        name, sentence = refusal.field, refusal.sentence
        if name in self.fields and not self.fields[name].widget.is_hidden:
            self._mark_wrong(name)
            self.add_error(name, sentence[:1].upper() + sentence[1:])
        else:
            self.add_error(None, refusal.message)


def _limits(name: str) -> dict[str, Any]:
    limits = settings.RESOURCE_CLASSES[name]
    return {
        "name": name,
        "minutes": limits["wall_seconds"] // 60,
        "memory": human_bytes(limits["memory_bytes"]),
    }


class SubmitForm(RunForm):
    """Files for a leaderboard, and how they are run."""

    leaderboard = forms.ModelChoiceField(
        Leaderboard.objects.none(), label=gettext_lazy("Leaderboard"), to_field_name="slug", empty_label=None
    )
    files = FilesField(label=gettext_lazy("Files"), allow_empty_file=True)  # type: ignore[assignment]
    name = forms.CharField(
        label=gettext_lazy("Name"),
        required=False,
        max_length=NAME_MAX_LENGTH,
        help_text=gettext_lazy(
            "How you tell it from your others, such as “PatchCore, 3 layers”. Only you and the operators see it."
        ),
    )
    entrypoint = forms.CharField(
        label=gettext_lazy("Entrypoint"),
        initial="main.py",
        max_length=100,
        help_text=gettext_lazy("The Python file that is run."),
    )
    config_file = forms.CharField(
        label=gettext_lazy("Config file"),
        initial="config.yaml",
        max_length=100,
        help_text=gettext_lazy("Passed to it as --config."),
    )
    writable_code = forms.BooleanField(
        label=gettext_lazy("Writable code folder"),
        required=False,
        help_text=gettext_lazy(
            "For code that writes next to itself, such as results/. Only the output folder is kept."
        ),
    )
    # A folder's shape, which a browser's form cannot tell by itself (static/submit.js fills it in).
    paths = forms.CharField(widget=forms.HiddenInput, required=False, max_length=PATHS_MAX_CHARACTERS)
    field_order = [
        "leaderboard",
        "files",
        "name",
        "entrypoint",
        "config_file",
        "resource_class",
        "config",
        "trial",
        "writable_code",
        "key",
        "paths",
    ]

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        leaderboard = cast("forms.ModelChoiceField[Leaderboard]", self.fields["leaderboard"])
        leaderboard.queryset = self.boards = Leaderboard.objects.visible_to(user).open()
        self.fields["files"].widget.attrs.update(
            {
                "accept": ",".join(settings.UPLOAD_EXTENSIONS),
                "data-extensions": " ".join(settings.UPLOAD_EXTENSIONS),
                "data-max-bytes": settings.UPLOAD_MAX_BYTES,
                "data-max-files": settings.UPLOAD_MAX_FILES,
            }
        )


def earlier_values(user: Any, submission_id: str | None) -> dict[str, Any]:
    """What the form begins with when it goes on from one of the user's submissions; its config file as the overrides."""
    try:
        earlier = Submission.objects.filter(user=user, deleted_at=None, pk=UUID(submission_id or "")).first()
    except ValueError:
        return {}
    if earlier is None:
        return {}
    text = read_config_file(earlier) or ""
    return {
        "entrypoint": earlier.entrypoint,
        "config_file": earlier.config_file,
        "config": text,
        "writable_code": earlier.has_writable_code,
    }
