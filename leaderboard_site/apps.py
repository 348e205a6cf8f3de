from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class LeaderboardSiteConfig(AppConfig):
    default = True
    name = "leaderboard_site"
    verbose_name = "LeadersBoard"


class ConsoleConfig(admin_apps.AdminConfig):
    """Django's admin, with the console's site in its place."""

    default_site = "leaderboard_site.console.site.ConsoleSite"
    default = False
