"""Lines of tasks on Ray."""

from tests.support.cluster_tests.lines import LinesFromACluster


class TestLines(LinesFromACluster):
    worker_prefix = "ray-"
