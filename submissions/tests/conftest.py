from pathlib import Path

import pytest

from submissions.tests.archives import Playground


@pytest.fixture
def playground(tmp_path: Path) -> Playground:
    return Playground(tmp_path)
