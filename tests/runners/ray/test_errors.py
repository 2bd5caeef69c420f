"""What cannot travel to Ray's workers, or is missing there."""

from tests.support.cluster_tests.errors import ErrorsOnACluster


class TestErrors(ErrorsOnACluster):
    worker_prefix = "ray-"
