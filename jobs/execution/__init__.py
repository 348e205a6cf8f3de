"""Running a stranger's program: the sandbox, its limits, and the reading of what it left.

Nothing in this package imports Django: `supervisor.py` is started as a bare `python -I -S` process for every run and must
be ready in milliseconds. The worker talks to it through `client.py`; `preflight.py` proves the sandbox before work is taken.
"""
