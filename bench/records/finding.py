"""What came of a fault that was made on purpose (`bench doctor`)."""

from dataclasses import dataclass
from typing import Literal

State = Literal["fired", "silent", "not_testable"]


@dataclass(frozen=True)
class Finding:
    """One fault and what came of it."""

    fault: str
    state: State
    message: str
    """What the guard said, why it is taken for silent, or why the fault cannot be made here."""
