"""What is promised of runs that end early, on Ray."""

from tests.support.early_ends import EarlyEnds


class TestEarlyEnds(EarlyEnds):
    """On the Ray of two CPUs."""
