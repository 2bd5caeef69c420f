"""Lines of tasks on Dask: all arrive, once, in order, while the tasks run, whatever becomes of them (D23, D28)."""

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.support.cluster_tests.lines import LinesFromACluster


class TestLines(LinesFromACluster):
    worker_prefix = "tcp://"


TWO_FLOWS = """
    import logging, os, pathlib, subprocess, sys, time
    from core_engine import flow, get_run_logger, task
    from distributed import LocalCluster
    from runners.dask import DaskTaskRunner

    FOLDER = pathlib.Path({folder!r})

    @task
    def talks(mine, other):
        (FOLDER / mine).touch()
        while not (FOLDER / other).exists():
            time.sleep(0.01)
        for level in ("debug", "info", "error"):
            getattr(get_run_logger(), level)(f"{{mine}} {{level}} of its own")
            getattr(logging.getLogger("some.library"), level)(f"{{mine}} {{level}} of a library")

    @flow
    def outer(mine, other):
        talks.submit(mine, other).result()

    def start(address, mine, other, level):
        settings = {{"CORE_ENGINE_LOGGING_LEVEL": level, "CORE_ENGINE_LOGGING_EXTRA_LOGGERS": "some.library"}}
        command = [sys.executable, __file__, address, mine, other]
        return subprocess.Popen(command, env={{**os.environ, **settings}})

    if __name__ == "__main__" and sys.argv[1:]:
        address, mine, other = sys.argv[1:]
        outer.with_options(task_runner=DaskTaskRunner(address=address))(mine, other)
    elif __name__ == "__main__":
        with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster:
            address = cluster.scheduler_address
            flows = [start(address, "first", "second", "DEBUG"), start(address, "second", "first", "ERROR")]
            sys.exit(sum(one.wait() for one in flows))
    """


@pytest.mark.behaviour("D28", "DASK-1")
def test_two_flows_on_one_worker_have_each_line_once_and_by_their_own_level(tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    script = tmp_path / "two_flows.py"
    script.write_text(textwrap.dedent(TWO_FLOWS).format(folder=str(tmp_path / "met")))

    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)

    assert ended.returncode == 0, ended.stderr
    said = Counter(
        line.rpartition(" - ")[2]
        for line in (ended.stdout + ended.stderr).splitlines()
        if " of its own" in line or " of a library" in line
    )
    origins = ("of its own", "of a library")
    expected = [f"first {level} {origin}" for level in ("debug", "info", "error") for origin in origins]
    assert said == Counter([*expected, *(f"second error {origin}" for origin in origins)])
