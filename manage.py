#!/usr/bin/env python3
"""Django's command line: `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed for this Python. `make run` makes var/env/local; use its bin/python.")
    from dj_database_url import ParseError, UnknownSchemeError
    from django.core.exceptions import ImproperlyConfigured
    from environs import EnvError

    try:
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, EnvError, ParseError, UnknownSchemeError) as error:
        # A setting that is missing or wrong is the operator's to mend: a trace of the settings file hides which.
        sys.exit(f"Settings: {error}\ndocs/configuration.md has each of them.")


if __name__ == "__main__":
    main()
