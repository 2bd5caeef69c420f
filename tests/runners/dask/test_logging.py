"""Lines of flows with different levels that share a worker, at the same time (D28)."""

import threading
from pathlib import Path
from typing import Any

import pytest

from core_engine import flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.settings import temporary_settings
from runners.dask import DaskTaskRunner
from tests.runners.dask.conftest import local_cluster
from tests.support.waiting import wait_for


@task
def says(name: str, folder: str) -> None:
    """Speak while the other flow's task runs in another thread of the same worker."""
    (Path(folder) / name).touch()
    wait_for(lambda: len(list(Path(folder).iterdir())) == 2)
    logger = get_run_logger()
    logger.debug("%s debugs", name)
    logger.info("%s informs", name)
    logger.error("%s fails", name)


def run(name: str, level: str, cluster: Any, folder: Path, found: dict[str, list[str]]) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=cluster), name=name)
    def outer() -> None:
        says.submit(name, str(folder)).result()

    with temporary_settings({"LOGGING_LEVEL": level}):
        state = outer(return_state=True)
    logs = step(get_client().read_logs(state.state_details.flow_run_id))
    found[name] = [line.entry.message for line in logs if line.entry.message.startswith(name)]


@pytest.mark.behaviour("D28")
def test_two_flows_on_one_worker_log_by_their_own_levels_and_each_line_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = local_cluster(n_workers=1, threads_per_worker=2)
    found: dict[str, list[str]] = {}
    try:
        flows = [
            threading.Thread(target=run, args=(name, level, cluster, tmp_path, found))
            for name, level in (("loud", "DEBUG"), ("quiet", "ERROR"))
        ]
        for one in flows:
            one.start()
        for one in flows:
            one.join()
    finally:
        cluster.close()
    shown = capfd.readouterr().err

    assert found == {"loud": ["loud debugs", "loud informs", "loud fails"], "quiet": ["quiet fails"]}
    # On the terminal there is one level, that of this process, and each line once at most.
    assert [shown.count(f"{name} fails") for name in ("loud", "quiet")] == [1, 1]
    assert all(shown.count(line) <= 1 for line in found["loud"])
    assert "quiet informs" not in shown
