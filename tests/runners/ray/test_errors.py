"""What cannot travel to Ray's workers, or is missing there."""

import contextlib

import pytest

from runners.ray import remote_options
from tests.support.cluster_tests.errors import ErrorsBetweenWorkers, ErrorsOnACluster, TwoPlaces


class TestErrors(ErrorsOnACluster):
    worker_prefix = "ray-"


class TestErrorsBetweenWorkers(ErrorsBetweenWorkers):
    @pytest.fixture
    def two_places(self) -> TwoPlaces:
        # A process that ends with its first call executes no second one.
        return remote_options(max_calls=1), contextlib.nullcontext()
