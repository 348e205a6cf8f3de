"""What operators did, as templates say it."""

from django import template

from accounts.operations import in_words

register = template.Library()
register.filter("action_word", in_words)
