"""Signals to the process of a flow that uses a Ray of others; test_process.py has those to one with its own (D25)."""

from pathlib import Path

import pytest

from tests.runners.ray.support import expect_clean
from tests.support.cluster_tests.signals import PATIENCE, SignalsToAFlowOnAClusterOfOthers
from tests.support.waiting import wait_for


class OtherRay:
    """The Ray of these tests, for the flow's process. This process is connected to it too, and looks."""

    runner = "runners.ray.RayTaskRunner"

    def __init__(self, address: str, folder: Path) -> None:
        self.options = f"address={address!r}"
        self._folder = folder

    def expect_clean(self, killed: bool) -> None:
        expect_clean(killed)

    def expect_that_it_goes_on(self) -> None:
        import ray

        folder = self._folder

        def meets(name: str) -> int:
            (folder / name).touch()
            wait_for(lambda: len(list(folder.iterdir())) == 2)
            return 3

        remote_meets = ray.remote(meets)
        assert ray.get([remote_meets.remote(name) for name in ("a", "b")], timeout=PATIENCE) == [3, 3]


@pytest.mark.behaviour("RAY-3", "RAY-7")
class TestRayOfOthers(SignalsToAFlowOnAClusterOfOthers):
    @pytest.fixture
    def others(self, ray_address: str, tmp_path: Path) -> OtherRay:
        folder = tmp_path / "meeting"
        folder.mkdir()
        return OtherRay(ray_address, folder)
