"""What gunicorn reads by itself when it is started in this folder. The command line wins over what stands here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from leaderboard_site.gunicorn_hooks import *  # noqa: F403 - gunicorn takes what it knows by name
