"""The builders, for reports that can be checked to the letter."""

from types import SimpleNamespace

import pytest

import builders


@pytest.fixture
def build() -> SimpleNamespace:
    """The builders of records: ``build.run`` is make_run."""
    makers = {
        name.removeprefix("make_"): made
        for name, made in vars(builders).items()
        if name.startswith("make_")
    }
    return SimpleNamespace(
        **makers, digits=builders.DIGITS, sha=builders.sha, steady=builders.steady
    )
