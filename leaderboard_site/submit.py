"""`python -m leaderboard_site.submit`: the participant's program in a checkout."""

import sys

from leaderboard_site.client.main import main

if __name__ == "__main__":
    sys.exit(main())
