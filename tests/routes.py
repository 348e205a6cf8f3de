"""Every address of the site, from the URL configuration, so that tests meet new ones by themselves."""

from collections.abc import Iterable, Iterator

from django.urls import URLPattern, URLResolver


def routes(patterns: Iterable[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """Yield (route, name) of each address, those of included configurations too."""
    for entry in patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from routes(entry.url_patterns, route)
        else:
            yield route, entry.name
