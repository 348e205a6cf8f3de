"""Which names people may choose: plain, not reserved, and not to be mistaken for another's."""

import re
import unicodedata

from django.db.models import F, Func, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Concat, Lower, Replace
from django.utils.translation import gettext_lazy as _

from accounts.refusals import InvalidInput
from core.names import invisible_character

SHORTEST, LONGEST = 3, 30
# ASCII alone: letters of other scripts look like these. A display name may have any.
_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[_.-](?=[A-Za-z0-9]))*")
# Names that sound like the site, its people or its parts, in the shape of `name_shape`.
_RESERVED = {
    "admin", "administrator", "root", "system", "operator", "operators", "organizer", "organizers", "moderator", "staff",
    "support", "help", "helpdesk", "security", "abuse", "postmaster", "webmaster", "hostmaster", "info", "mail", "noreply",
    "leadersboard", "leaderboard", "leaderboards", "baseline", "baselines", "platform", "worker", "reconciler", "mlflow",
    "anonymous", "anybody", "everyone", "everybody", "nobody", "somebody", "none", "null", "undefined", "unknown", "deleted",
    "visitor", "participant", "guest", "user", "users", "test", "api", "www", "login", "logout", "account", "submit", "me",
}  # fmt: skip
TAKEN = _("this name, or one that looks like it, is taken.")


class NameShape(Func):
    """What a name looks like at a glance, in SQL; the same as `name_shape`. An index holds it for every user."""

    function = "translate"
    arity = 3

    def __init__(self, *expressions):
        if len(expressions) == 3:
            super().__init__(*expressions)
            return
        (name,) = expressions
        joined = Replace(Replace(Lower(name), Value("rn"), Value("m")), Value("vv"), Value("w"))
        super().__init__(joined, Value("01i_.-"), Value("oll"))


def name_shape(name: str) -> str:
    """The name without what the eye passes over: case, separators, and letters that look like others."""
    joined = name.lower().replace("rn", "m").replace("vv", "w")
    return joined.translate(str.maketrans("01i", "oll", "_.-"))


_RESERVED_SHAPES = {name_shape(name) for name in _RESERVED}


def check_username(name: str) -> str:
    """The name, if somebody may choose it; raises InvalidInput. Whether it is free is another question."""
    if not SHORTEST <= len(name) <= LONGEST:
        raise InvalidInput(
            "bad_username", _("%(shortest)d to %(longest)d characters, not %(count)d."), field="username",
            shortest=SHORTEST, longest=LONGEST, count=len(name),
        )  # fmt: skip
    if not _PLAIN.fullmatch(name):
        raise InvalidInput(
            "bad_username",
            _("only the letters A to Z, digits, and single _ . - between them."),
            field="username",
        )
    if name_shape(name) in _RESERVED_SHAPES:
        raise InvalidInput("bad_username", _("this name is reserved."), field="username")
    return name


def display_name(username: str, first_name: str, last_name: str) -> str:
    """Return what people see of a person. New names are kept whole as the first name; accounts from before may have both."""
    return f"{first_name} {last_name}".strip() or username


def display_name_in_sql(person: str = "") -> Combinable:
    """Return the chosen name as an expression, empty where there is none; `person` is the path to the user, as `user__`."""
    return Concat(F(f"{person}first_name"), Value(" "), F(f"{person}last_name"))


def check_display_name(name: str) -> str:
    """The name in NFC with single spaces; raises InvalidInput when something in it cannot be seen."""
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if character := invisible_character(cleaned):
        raise InvalidInput(
            "bad_name", _("the character %(character)s cannot be seen."), field="name", character=character
        )
    return cleaned


USERNAME_SHAPE = NameShape(F("username"))
