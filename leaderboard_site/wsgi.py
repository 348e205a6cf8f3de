"""What gunicorn serves: the whole site, behind the lane that answers its commonest calls."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
_django = get_wsgi_application()
# Every view and what it imports, now: the first visitor of each process would wait for it.
_routes = get_resolver().url_patterns

# These need the apps, which are ready only now.
from leaderboard_site.lane.application import LaneApplication  # noqa: E402
from leaderboard_site.request_limits import LimitedApplication  # noqa: E402

application = LaneApplication(LimitedApplication(_django))
