"""Transcripts are golden files: `pytest tests/transcripts --rewrite` writes what is true now."""

import pytest


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether transcripts are to be rewritten instead of checked."""
    return bool(request.config.getoption("--rewrite", default=False))
