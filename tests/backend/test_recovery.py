"""What becomes of the runs of a real process that is gone."""

from __future__ import annotations

import time

import pytest

from core_engine.backend import leases
from core_engine.backend.sqlite import SqliteStore
from tests.backend.processes import python, says

pytestmark = pytest.mark.behaviour("D7")


_OWNER = """
import sys, time
from pathlib import Path
from core_engine.backend import leases
from core_engine.backend.sqlite import SqliteStore
from core_engine.schemas.states import RUNNING
from tests.backend.builders import TaskRunScript, recorded
path = Path(sys.argv[1])
store = SqliteStore(path)
run, tasks = recorded(store, count=2, owner=leases.own_lease(path.parent).name)
store.apply([TaskRunScript(tasks, 0).to(RUNNING)])
print(run.id, flush=True)
sys.stdin.read()
"""


def test_the_runs_of_a_real_process_crash_when_it_is_killed_and_not_before(store: SqliteStore) -> None:
    with python(_OWNER, store.path) as process:
        id = says(process)
        assert store.reconcile(time.time()) == []
        process.kill()
        process.wait(30)
        assert [str(crashed) for crashed in store.reconcile(time.time())] == [id]
    assert [path.name for path in (store.path.parent / "leases").iterdir()] == []
    own = leases.own_lease(store.path.parent)
    assert own.path.exists()
