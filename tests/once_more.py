"""What failed beside other tests, once more by itself: `make check` ends red only for what fails both times.

Hundreds of the tests start, kill and time real servers, workers and sandboxes, on machines that do other things too. One
that fails once and then passes is named at the end, as what it is: a test, or worse the product, that depends on the
moment. More than MOST failures are no accident, and are not tried again.
"""

import json
import subprocess
import sys
from pathlib import Path

MOST = 5
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    failed = sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []
    if not failed or len(failed) > MOST:
        print(f"Not tried again: {len(failed)} tests failed, and 1 to {MOST} are", flush=True)
        return 1
    print("\nOnce more, by themselves:", *failed, sep="\n  ", flush=True)
    ended = subprocess.run([sys.executable, "-m", "pytest", "-n", "0", *failed], check=False).returncode
    if not ended:
        print(
            "\nThey failed beside others and passed alone. Each depends on the moment and wants mending:",
            *failed,
            sep="\n  ",
        )
    return ended


if __name__ == "__main__":
    sys.exit(main())
