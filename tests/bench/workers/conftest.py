"""These tests are about how processes start."""

import pytest


@pytest.fixture(scope="module")
def _warm_starts() -> None:
    """Start processes as foldbench does."""
