"""Forms about accounts."""

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiToken


class TokenForm(forms.ModelForm):
    class Meta:
        model = ApiToken
        fields = ["name"]
        labels = {"name": _("Name")}
        help_texts = {"name": _("What it is for, so that you know it again: laptop, CI.")}
