"""Two sites of one machine never settle on one port."""

import subprocess
import sys

from leaderboard_site.embedded.servers import claim_port, free_port

CLAIM = "import sys; from leaderboard_site.embedded.servers import claim_port; print(claim_port(int(sys.argv[1])))"


def claim_elsewhere(port: int) -> str:
    answer = subprocess.run([sys.executable, "-c", CLAIM, str(port)], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def test_claim_port_is_refused_to_another_process_while_ours_lives():
    port = free_port()
    assert claim_elsewhere(port) == "False"
    assert claim_port(port) is True


def test_claim_port_ends_with_its_process():
    port = 19_873
    assert claim_elsewhere(port) == "True"
    assert claim_elsewhere(port) == "True"
