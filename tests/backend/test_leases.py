"""Leases: held as long as their process lives, by no other process, free in the instant in which it dies."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from core_engine.backend import leases
from tests.backend.processes import python, says

pytestmark = pytest.mark.behaviour("D7")

_HOLDER = """
import sys
from pathlib import Path
from core_engine.backend import leases
print(leases.own_lease(Path(sys.argv[1])).name, flush=True)
sys.stdin.read()
"""


def test_a_process_has_one_lease_in_a_folder(tmp_path: Path) -> None:
    lease = leases.own_lease(tmp_path)
    assert leases.own_lease(tmp_path) is lease
    assert leases.own_lease(tmp_path / "other").name != lease.name
    assert lease.pid == os.getpid()
    assert str(os.getpid()) in lease.name
    assert not leases.is_free(tmp_path, lease.name)


def test_a_lease_that_nobody_ever_held_is_free(tmp_path: Path) -> None:
    assert leases.is_free(tmp_path, "host-1-abc")


def test_a_lease_is_held_until_its_process_is_killed(tmp_path: Path) -> None:
    with python(_HOLDER, tmp_path) as process:
        name = says(process)
        for _ in range(3):
            assert not leases.is_free(tmp_path, name)
        process.kill()
        process.wait(30)
        assert leases.is_free(tmp_path, name)


_READS_ITS_LEASE = """
import sys
from pathlib import Path
from core_engine.backend import leases
lease = leases.own_lease(Path(sys.argv[1]))
lease.path.read_bytes()
print(lease.name, flush=True)
sys.stdin.read()
"""


def test_a_lease_is_not_lost_when_its_own_process_reads_and_closes_the_file(tmp_path: Path) -> None:
    with python(_READS_ITS_LEASE, tmp_path) as process:
        assert not leases.is_free(tmp_path, says(process))


def test_a_lease_that_is_given_up_is_free_at_once(tmp_path: Path) -> None:
    name = leases.own_lease(tmp_path).name
    leases.give_up(tmp_path)
    leases.give_up(tmp_path)
    assert leases.is_free(tmp_path, name)
    assert leases.own_lease(tmp_path).name != name


def test_only_the_files_of_free_leases_are_removed(tmp_path: Path) -> None:
    mine = leases.own_lease(tmp_path)
    folder = mine.path.parent
    (folder / "host-2-dead").touch()
    (folder / ".host-3-beginning").touch()
    (folder / ".host-4-killed").touch()
    long_ago = time.time() - 86_400
    os.utime(folder / ".host-4-killed", (long_ago, long_ago))
    leases.remove_free(tmp_path)
    leases.remove_free(tmp_path / "missing")
    assert sorted(path.name for path in folder.iterdir()) == sorted([".host-3-beginning", mine.name])


_FORKS = """
import os, sys, time
from pathlib import Path
from core_engine.backend import leases
home = Path(sys.argv[1])
parent = leases.own_lease(home).name
read, write = os.pipe()
child = os.fork()
if child == 0:
    own = leases.own_lease(home)
    os.write(write, f"{own.name} {leases.is_free(home, parent)}\\n".encode())
    os.close(read)
    sys.stdin.read()
    os._exit(0)
os.close(write)
print(parent, child, os.fdopen(read).readline().strip(), flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.behaviour("D33")
def test_a_forked_child_has_a_lease_of_its_own_and_does_not_hold_its_parents(tmp_path: Path) -> None:
    with python(_FORKS, tmp_path) as process:
        parent, child_pid, child, parent_was_free = says(process).split()
        process.wait(30)
        try:
            assert parent_was_free == "False"
            assert child != parent
            assert leases.is_free(tmp_path, parent)
            assert not leases.is_free(tmp_path, child)
        finally:
            os.kill(int(child_pid), 9)
