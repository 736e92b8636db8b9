"""One campaign for all targets: about 20 s for all of them, or five minutes each with `--long`."""

from __future__ import annotations

import pytest
from support.fuzzing import Campaign


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    return Campaign(is_long=bool(request.config.getoption("--long")))
