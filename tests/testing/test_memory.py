"""TEST: flows recorded in memory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import anyio
import pytest

from core_engine import flow, get_client, get_run_logger, task
from core_engine.backend import open_backend
from core_engine.backend.embedded import Backend, register_backend
from core_engine.backend.journal import Journal
from core_engine.backend.leases import Lease
from core_engine.exceptions import ObjectNotFound
from core_engine.schemas.states import StateType
from core_engine.settings import get_current_settings
from core_engine.tasks import task_input_hash
from core_engine.testing import MemoryStore, get_most_recent_flow_run, memory_client

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.behaviour("TEST-1")


@task
def half(number: int) -> float:
    get_run_logger().info("half of %s", number)
    return number / 2


@flow
def halves(numbers: list[int]) -> list[float]:
    return [future.result() for future in half.map(numbers)]


@flow
def twice(numbers: list[int]) -> list[list[float]]:
    return [halves(numbers), halves(numbers)]


def test_flows_of_the_block_are_seen_by_its_client_and_by_nobody_afterwards(home: Path) -> None:
    with memory_client() as client:
        assert halves([1, 2, 3]) == [0.5, 1.0, 1.5]
        assert get_client().store is client.store
        (run,) = client.store.read_flow_runs()
        assert run.state_type is StateType.COMPLETED
        assert [child.state_name for child in client.store.read_task_runs(run.id)] == ["Completed"] * 3
        messages = [stored.entry.message for stored in client.store.read_logs(run.id) if stored.entry.task_run_id]
        assert {"half of 1", "half of 2", "half of 3"} <= set(messages)
        events = [event.to_name for event in client.store.read_events(run.id) if event.task_run_id is None]
        assert events == ["Pending", "Running", "Completed"]

    assert open_backend().store.read_flow_runs() == []


def test_nothing_is_written_but_to_a_home_that_is_gone_afterwards(home: Path) -> None:
    with memory_client() as client:
        memory_home = get_current_settings().home
        halves([1])
        assert not client.store.path.exists()
        assert not (memory_home / "leases").exists()
        assert client.store.size_bytes() == 0

    assert not memory_home.exists()
    assert not home.exists() or list(home.iterdir()) == []


def test_subflows_retries_caching_and_persisted_results_work_in_memory() -> None:
    calls = []

    @task(retries=1, cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=1), persist_result=True)
    def second_time_lucky(number: int) -> int:
        calls.append(number)
        if len(calls) == 1:
            raise ConnectionError("not yet")
        return number

    @flow
    def cached() -> int:
        return second_time_lucky(7)

    with memory_client() as client:
        assert twice([2, 4]) == [[1.0, 2.0]] * 2
        assert (cached(), cached()) == (7, 7)
        assert calls == [7, 7]
        latest = anyio.run(get_most_recent_flow_run)
        assert latest is not None
        (run,) = client.store.read_task_runs(latest.id)
        assert run.state_name == "Cached"
        subflows = [run for run in client.store.read_flow_runs(flow_name="halves") if run.parent_task_run_id]
        assert len(subflows) == 2


def test_two_blocks_one_in_the_other_do_not_see_each_other() -> None:
    with memory_client() as outer:
        halves([1])
        with memory_client() as inner:
            halves([1])
            halves([2])
            assert len(inner.store.read_flow_runs()) == 2
        assert len(outer.store.read_flow_runs()) == 1
        assert get_client().store is outer.store


def test_the_client_can_be_awaited_and_an_unknown_run_is_said_so() -> None:
    async def ask(id: UUID) -> None:
        async with get_client() as client:
            await client.read_flow_run(id)

    with memory_client(), pytest.raises(ObjectNotFound, match="no flow run"):
        anyio.run(ask, UUID(int=1))


def test_a_path_has_one_backend_at_a_time(tmp_path: Path) -> None:
    def backend() -> Backend:
        store = MemoryStore(tmp_path / "runs.db")
        return Backend(store, Journal(store), Lease(store.owner, tmp_path / "lease", 1))

    first = backend()
    register_backend(first)
    with pytest.raises(ValueError, match="close it first"):
        register_backend(backend())
    first.close()
    second = backend()
    register_backend(second)
    second.close()


def test_a_store_must_be_given_to_the_conformance_suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from core_engine.testing.store_conformance import StoreConformance

        class TestForgotten(StoreConformance):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-k", "every_field_of_a_flow_run", "-p", "no:cacheprovider")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*NotImplementedError*store*"])
