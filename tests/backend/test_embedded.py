"""The backend of a process: one for each database, for this process alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_engine.backend import leases, open_backend
from core_engine.backend.entries import FlowRunCreated
from core_engine.exceptions import StoreUnavailable
from core_engine.settings import get_current_settings, temporary_settings
from tests.backend.builders import flow_run
from tests.backend.processes import ends_well, python


def test_a_process_has_one_backend_for_a_database(home: Path) -> None:
    backend = open_backend()
    assert open_backend() is backend
    assert open_backend(get_current_settings()) is backend
    assert backend.store.path == home / "core_engine.db"
    with temporary_settings({"HOME": str(home / "other")}):
        other = open_backend()
        assert other is not backend
        other.close()
    backend.close()


def test_a_backend_that_was_closed_has_everything_in_its_file_and_is_opened_anew(home: Path) -> None:
    backend = open_backend()
    run = flow_run()
    backend.journal.append(FlowRunCreated(run))
    backend.close()
    backend.close()
    again = open_backend()
    assert again is not backend
    assert again.store.read_flow_run(run.id) is not None
    again.close()
    assert not (home / "core_engine.db-wal").exists()


@pytest.mark.behaviour("D7")
def test_the_lease_of_a_backend_lies_beside_the_database_that_names_it(home: Path, tmp_path: Path) -> None:
    with temporary_settings({"DATABASE_PATH": str(tmp_path / "elsewhere" / "runs.db")}):
        backend = open_backend()
        assert backend.lease.path.parent == tmp_path / "elsewhere" / "leases"
        assert not leases.is_free(tmp_path / "elsewhere", backend.lease.name)
        run = flow_run(owner=backend.lease.name)
        backend.journal.append(FlowRunCreated(run))
        backend.journal.flush(30)
        assert backend.store.reconcile(0.0) == []
        backend.close()


def test_a_home_in_which_no_lease_can_be_taken_is_said_to_be_so(home: Path) -> None:
    home.mkdir()
    (home / "leases").touch()
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        open_backend()


_FORKS = """
import os, sys
from core_engine.backend import open_backend
from core_engine.backend.entries import FlowRunCreated
from core_engine.exceptions import StoreError
from tests.backend.builders import flow_run
parent = open_backend()
first, second = flow_run(name="of the parent"), flow_run(name="of the child")
parent.journal.wait(parent.journal.append(FlowRunCreated(first)), 30)
child = os.fork()
if child == 0:
    # What the child inherited is silent, and never waits for a thread that is not there.
    position = parent.journal.append(FlowRunCreated(flow_run(name="lost")))
    try:
        parent.journal.wait(position)
    except StoreError as error:
        print(error, flush=True)
    parent.journal.close()
    backend = open_backend()
    assert backend is not parent and backend.lease != parent.lease
    backend.journal.append(FlowRunCreated(second))
    backend.close()
    del backend, parent
    os._exit(0)
os.waitpid(child, 0)
parent.journal.append(FlowRunCreated(flow_run(name="after the fork")))
parent.close()
print(sorted(run.name for run in open_backend().store.read_flow_runs()), flush=True)
"""


@pytest.mark.behaviour("D33")
def test_a_forked_child_has_a_backend_of_its_own_and_leaves_its_parents_alone() -> None:
    with python(_FORKS) as process:
        silent, names = ends_well(process).splitlines()
    assert "forked process has no journal" in silent
    assert names == "['after the fork', 'of the child', 'of the parent']"
