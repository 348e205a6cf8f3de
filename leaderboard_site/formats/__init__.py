"""Django's formats, with the zone after each time."""
