"""Settings on workers that were started with others."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core_engine import flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.settings import get_current_settings, temporary_settings
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.waiting import wait_for

# What the workers were started with, unlike any flow of the tests.
OTHER_DEFAULTS = {
    "CORE_ENGINE_LOGGING_LEVEL": "ERROR",
    "CORE_ENGINE_HOME": "/nonexistent/home-of-the-workers",
    "CORE_ENGINE_LOCAL_STORAGE_PATH": "/nonexistent/results-of-the-workers",
    "CORE_ENGINE_TASK_DEFAULT_RETRIES": "7",
}


def settings_here() -> dict[str, str]:
    """Return those settings that OTHER_DEFAULTS has, as they are where this is called."""
    settings = get_current_settings()
    return {
        "CORE_ENGINE_LOGGING_LEVEL": settings.logging_level,
        "CORE_ENGINE_HOME": str(settings.home),
        "CORE_ENGINE_LOCAL_STORAGE_PATH": str(settings.local_storage_path),
        "CORE_ENGINE_TASK_DEFAULT_RETRIES": str(settings.task_default_retries),
    }


AskWorkers = Callable[[Callable[[], Any]], list[tuple[int, Any]]]


@task(map_options=MapOptions(batch_size=1))
def shows(x: int) -> tuple[int, dict[str, str]]:
    """Return the worker's process and the settings in force there."""
    get_run_logger().debug("a detail")
    return os.getpid(), settings_here()


def changed(folder: Path, level: str, retries: int) -> dict[str, Any]:
    return {
        "LOGGING_LEVEL": level,
        "HOME": folder / "home",
        "LOCAL_STORAGE_PATH": folder / "results",
        "TASK_DEFAULT_RETRIES": retries,
        "RESULTS_PERSIST_BY_DEFAULT": True,
    }


def as_variables(settings: dict[str, Any]) -> dict[str, str]:
    return {name: str(settings[name.removeprefix("CORE_ENGINE_")]) for name in OTHER_DEFAULTS}


def details_stored(flow_run_id: Any) -> int:
    return sum(one.entry.message == "a detail" for one in step(get_client().read_logs(flow_run_id)))


class SettingsOnACluster:
    """The flow's settings are in force in its tasks, wherever they are; the worker's own before and after.

    The fixture `ask_workers` calls a function on the workers, outside of tasks of ours: it returns the answers, each
    with the id of the process that gave it.
    """

    @pytest.mark.behaviour("CTX-13", "I3")
    def test_the_flows_settings_are_in_force_in_tasks_and_the_workers_own_before_and_after(
        self, task_runner: BaseTaskRunner, ask_workers: AskWorkers, tmp_path: Path
    ) -> None:
        @flow(task_runner=task_runner)
        def outer() -> Any:
            return [shows.submit(0)]

        before = ask_workers(settings_here)
        settings = changed(tmp_path, "DEBUG", 2)
        with temporary_settings(settings):
            (state,) = outer(return_state=True).result()
            worker, inside = state.result()
            details = details_stored(state.state_details.flow_run_id)
        after: list[tuple[int, Any]] = []
        wait_for(lambda: after.extend(ask_workers(settings_here)) or worker in dict(after), "an answer of the worker")

        assert inside == as_variables(settings)
        assert details == 1
        assert list((tmp_path / "results").iterdir())
        for _, outside in [*before, *after]:
            assert outside == OTHER_DEFAULTS

    @pytest.mark.behaviour("CTX-13", "D28")
    def test_flows_with_different_settings_share_the_workers_at_the_same_time(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
        both = threading.Barrier(2, timeout=30)

        @flow(task_runner=task_runner)
        def outer() -> Any:
            both.wait()
            return shows.map(range(100))

        def run(settings: dict[str, Any]) -> tuple[list[Any], int]:
            with temporary_settings(settings):
                states = outer(return_state=True).result()
                return [state.result() for state in states], details_stored(states[0].state_details.flow_run_id)

        loud, quiet = changed(tmp_path / "loud", "DEBUG", 1), changed(tmp_path / "quiet", "ERROR", 2)
        with ThreadPoolExecutor(2) as threads:
            (of_loud, loud_details), (of_quiet, quiet_details) = threads.map(run, [loud, quiet])

        assert [inside for _, inside in of_loud] == [as_variables(loud)] * 100
        assert [inside for _, inside in of_quiet] == [as_variables(quiet)] * 100
        assert {worker for worker, _ in of_loud} & {worker for worker, _ in of_quiet}
        assert (loud_details, quiet_details) == (100, 0)
        # The flow's own is stored, too.
        assert [len(list((tmp_path / name / "results").iterdir())) for name in ("loud", "quiet")] == [101, 101]
