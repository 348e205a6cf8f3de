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
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
