"""The parts LeadersBoard stands on (PostgreSQL, Valkey, MLflow), started from wheels as any user.

Nothing here needs Django, and nothing but the standard library is imported at import time: `environments` runs
before anything is installed.
"""
