"""Lines of tasks on Ray."""

from tests.support.cluster_tests import LinesFromACluster


class TestLines(LinesFromACluster):
    worker_prefix = "ray-"
