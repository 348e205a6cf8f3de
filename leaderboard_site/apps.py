from django.apps import AppConfig


class LeaderboardSiteConfig(AppConfig):
    name = "leaderboard_site"
    verbose_name = "LeadersBoard"
