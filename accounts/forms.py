"""Forms about accounts."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordMixin
from django.forms import BaseForm
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiToken, User
from accounts.names import LONGEST, check_display_name, check_username
from accounts.refusals import InvalidInput


class TokenForm(forms.ModelForm):
    class Meta:
        model = ApiToken
        fields = ["name"]
        labels = {"name": _("Name")}
        help_texts = {"name": _("What it is for, so that you know it again: laptop, CI.")}


class Told(BaseForm):
    """Says to screen readers which field is wrong and where the reason and the help stand; shows services' refusals."""

    def full_clean(self) -> None:
        super().full_clean()
        for name in self.fields:
            self.describe(name)

    def describe(self, name: str) -> None:
        field, is_wrong = self.fields[name], name in (self.errors or {})
        parts = [f"id_{name}_error"] * is_wrong + [f"id_{name}_help"] * bool(field.help_text)
        field.widget.attrs.pop("aria-describedby", None)
        if parts:
            field.widget.attrs["aria-describedby"] = " ".join(parts)
        if is_wrong:
            field.widget.attrs["aria-invalid"] = "true"

    def add_refusal(self, refusal: InvalidInput) -> None:
        """A service's refusal beside the field that it is about, or above the form."""
        sentence = refusal.sentence
        self.add_error(refusal.field if refusal.field in self.fields else None, sentence[:1].upper() + sentence[1:])
        for name in self.fields:
            self.describe(name)


def clean_by(check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except InvalidInput as refusal:
        raise forms.ValidationError(refusal.sentence[:1].upper() + refusal.sentence[1:]) from refusal


class ProfileForm(Told, forms.Form):
    """What others see of a person, and where to reach them."""

    name = forms.CharField(
        label=_("Name"), required=False, max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text=_("As you like to be called, in any script. The username stays as it is."),
    )  # fmt: skip
    email = forms.EmailField(
        label=_("E-mail"), required=False, max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text=_("Operators alone see it."),
    )  # fmt: skip

    def clean_name(self) -> str:
        return clean_by(check_display_name, self.cleaned_data["name"])


class PasswordForm(Told, PasswordChangeForm):
    end_tokens = forms.BooleanField(
        label=_("End my API tokens too"),
        required=False,
        help_text=_("Programs that use them will have to be given new ones."),
    )


class SignUpForm(Told, SetPasswordMixin, forms.Form):
    """A new account. The invitation is looked at by the view, before anything else is."""

    invitation = forms.CharField(label=_("Invitation"), max_length=100, strip=True)
    username = forms.CharField(
        label=_("Username"), max_length=LONGEST * 5,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("3 to 30 letters, digits, and _ . - between them. Everybody sees it, and it cannot be changed."),
    )  # fmt: skip
    name = ProfileForm.declared_fields["name"]
    email = ProfileForm.declared_fields["email"]
    password1, password2 = SetPasswordMixin.create_password_fields()
    field_order = ["invitation", "username", "name", "email", "password1", "password2"]

    def __init__(self, *args: Any, by_invitation: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not by_invitation:
            del self.fields["invitation"]

    def clean_username(self) -> str:
        return clean_by(check_username, self.cleaned_data["username"])

    def clean_name(self) -> str:
        return clean_by(check_display_name, self.cleaned_data["name"])

    def clean(self):
        self.validate_passwords()
        given = self.cleaned_data
        user = User(username=given.get("username", ""), first_name=given.get("name", ""), email=given.get("email", ""))
        self.validate_password_for_user(user)
        return super().clean()
