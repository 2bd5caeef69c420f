"""Settings of flows on a Ray that was started with others."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runners.ray.support import RayProcesses
from tests.support.cluster_tests.settings import AskWorkers, SettingsOnACluster
from tests.support.waiting import wait_for


class TestSettings(SettingsOnACluster):
    @pytest.fixture
    def ask_workers(self, ray_processes: RayProcesses, ray_address: str, tmp_path: Path) -> AskWorkers:
        """Two functions that meet are called in two processes."""

        def ask(function: Callable[[], Any]) -> list[tuple[int, Any]]:
            import ray

            number = len(list(tmp_path.glob("meeting-*")))
            meeting = tmp_path / f"meeting-{number}"
            meeting.mkdir()

            def answer(name: str) -> tuple[int, Any]:
                (meeting / name).touch()
                wait_for(lambda: len(list(meeting.iterdir())) == 2)
                return os.getpid(), function()

            remote_answer = ray.remote(answer)
            answers: list[tuple[int, Any]] = ray.get([remote_answer.remote(name) for name in ("first", "second")])
            return answers

        return ask
