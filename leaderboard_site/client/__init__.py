"""The participant's program: `client.pyz`, `manage.py submit`, `python -m leaderboard_site.submit`.

Standard library and `core.sizes` only, Python 3.9 or newer: it needs the site's address and a token, neither Django nor a
database.
One module for each command in `commands/`; `program.py` packs the package into one file.
"""

from leaderboard_site.client.connection import Client
from leaderboard_site.client.faults import NoAnswer, Refused

__all__ = ["Client", "NoAnswer", "Refused"]
