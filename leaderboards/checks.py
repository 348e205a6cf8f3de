"""What manage.py says of the settings before it does anything: a worker does not start on labels that runs could see."""

from typing import Any

from django.core.checks import Error, register

from leaderboards.scoring import overlapping_roots


@register
def hidden_labels_lie_apart(app_configs: Any, **kwargs: Any) -> list[Error]:
    return [Error(sentence, id="leaderboards.E001") for sentence in overlapping_roots()]
