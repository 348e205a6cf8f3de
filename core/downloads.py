"""Headers of files that are saved under names which strangers chose."""

import re
from urllib.parse import quote

# Characters that every browser takes literally between quotes: `%41` is decoded by some, and a backslash by others.
_PLAIN = re.compile(r"[A-Za-z0-9 ._()+,=@-]+")


def content_disposition(name: str, *, is_inline: bool = False) -> str:
    """Return the header that gives a file its name (RFC 6266): exact in `filename*`, and in ASCII for older programs."""
    kind = "inline" if is_inline else "attachment"
    plain = "".join(char if _PLAIN.fullmatch(char) else "_" for char in name)
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'{kind}; filename="{plain}"{exact}'
