"""What is promised of runs that end early, on Dask."""

from tests.support.early_ends import EarlyEnds


class TestEarlyEnds(EarlyEnds):
    """On the cluster of two workers."""
