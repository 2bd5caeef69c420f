"""Task runs as read back: children with and without rows, filters, counts, times, look-ups."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from core_engine import ids
from core_engine.backend.entries import Entry, InputsDigested, TaskRunsCreated, TaskRunUpdated
from core_engine.backend.store import Store, TaskRunCount
from core_engine.exceptions import StoreError
from core_engine.schemas.records import TaskPolicy, TaskRun, TaskRunResult
from core_engine.schemas.states import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    SCHEDULED,
    State,
    StateDetails,
    StateType,
)
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import START, TaskRunScript, group, recorded
from core_engine.testing.stores.suite import StoreSuite

_ALL = [*[f"measure-{index}" for index in range(6)], "merge-0", "merge-1"]


def _names(runs: list[TaskRun]) -> list[str]:
    return [run.name for run in runs]


class TaskRunsSuite(StoreSuite):
    """Recording and reading task runs."""

    @pytest.fixture
    def mixed(self, store: Store) -> Any:
        """A flow run with a map of six (two completed, one failed, one not ready, two never started) and two calls."""
        run, tasks = recorded(store, count=6)
        scripts = [TaskRunScript(tasks, index) for index in range(6)]
        calls = [group(run.id, task_key="census.merge", task_name="merge", first_index=index) for index in range(2)]
        store.apply(
            [
                *scripts[1].done(),
                *scripts[4].done(),
                scripts[2].to(RUNNING),
                scripts[2].to(FAILED, message="no"),
                scripts[5].to(PENDING, "NotReady"),
                *[TaskRunsCreated(call) for call in calls],
                *TaskRunScript(calls[1]).done(),
            ]
        )
        return run, tasks, calls

    @holds("D9")
    def test_children_without_a_row_are_read_as_pending_in_their_places(self, store: Store, mixed: Any) -> None:
        run, tasks, _ = mixed
        runs = store.read_task_runs(run.id)
        assert _names(runs) == _ALL
        assert [child.state_name for child in runs] == [
            "Pending", "Completed", "Failed", "Pending", "Completed", "NotReady", "Pending", "Completed",
        ]  # fmt: skip
        assert runs[0].id == tasks.run_id(0)
        assert runs[0].state is not None
        assert runs[0].state.timestamp.timestamp() == tasks.created
        assert _names(store.read_task_runs(run.id, order="desc")) == _ALL[::-1]

    @holds("D9")
    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize(
        "filters",
        [
            {},
            {"task_name": "measure"},
            {"task_name": "unknown"},
            {"state_types": [PENDING]},
            {"state_types": ["COMPLETED", FAILED]},
            {"state_names": ["Pending"]},
            {"state_names": ["NotReady", "Failed"]},
            {"state_types": [PENDING], "state_names": ["NotReady"]},
            {"state_types": [PENDING, COMPLETED], "task_name": "merge"},
            {"state_types": []},
        ],
    )
    def test_filters_and_pages_of_stored_and_unstored_children_agree_with_reading_all(
        self, store: Store, mixed: Any, filters: dict[str, Any], order: Any
    ) -> None:
        run, _, _ = mixed
        everything = store.read_task_runs(run.id, order=order)
        types = filters.get("state_types", list(StateType))
        expected = [
            child.name
            for child in everything
            if child.state_type in [StateType(type) for type in types]
            and child.state_name in filters.get("state_names", [child.state_name])
            and child.task_name == filters.get("task_name", child.task_name)
        ]
        assert _names(store.read_task_runs(run.id, order=order, **filters)) == expected
        for size in (1, 2, 3, 7):
            pages = [
                _names(store.read_task_runs(run.id, order=order, limit=size, offset=start, **filters))
                for start in range(0, len(expected) + size, size)
            ]
            assert [name for page in pages for name in page] == expected

    @holds("D9")
    def test_counts_hold_the_children_without_a_row(self, store: Store, mixed: Any) -> None:
        run, _, _ = mixed
        assert store.count_task_runs(run.id) == [
            TaskRunCount("measure", PENDING, "Pending", 3 - 1),
            TaskRunCount("measure", PENDING, "NotReady", 1),
            TaskRunCount("measure", COMPLETED, "Completed", 2),
            TaskRunCount("measure", FAILED, "Failed", 1),
            TaskRunCount("merge", PENDING, "Pending", 1),
            TaskRunCount("merge", COMPLETED, "Completed", 1),
        ]

    def test_times_of_all_children_are_read_for_drawing(self, store: Store, mixed: Any) -> None:
        run, tasks, _ = mixed
        store.apply([TaskRunUpdated(tasks, 0, {"name": "the first"})])
        times = list(store.task_run_times(run.id))
        assert [(line.task_name, line.index) for line in times] == [
            *[("measure", index) for index in range(6)],
            ("merge", 0),
            ("merge", 1),
        ]
        assert times[0] == ("measure", 0, "the first", None, PENDING, "Pending", START + 1, None, None)
        assert times[1] == ("measure", 1, None, "worker-1", COMPLETED, "Completed", START + 1, START + 1.5, START + 2)

    @holds("D9")
    def test_a_task_run_is_found_by_its_task_and_the_number_of_its_call(self, store: Store) -> None:
        run, _ = recorded(store)
        groups = [
            group(run.id, 3),
            group(run.id, 1, first_index=3, tags=frozenset({"other"})),
            group(run.id, 5, first_index=4),
            group(run.id, 2, task_key="census.merge"),
        ]
        store.apply([TaskRunsCreated(made) for made in groups])
        for made in groups[:3]:
            for index in range(made.count):
                found = store.find_task_run(run.id, "census.measure", made.first_index + index)
                assert found is not None
                assert found.id == made.run_id(index)
        assert store.find_task_run(run.id, "census.measure", 9) is None
        assert store.find_task_run(run.id, "census.unknown", 0) is None
        assert store.find_task_run(uuid4(), "census.measure", 0) is None

    def test_ids_that_name_no_task_run_find_none(self, store: Store) -> None:
        run, tasks = recorded(store, count=3)
        for id in (uuid4(), run.id, tasks.run_id(3), ids.state_id(tasks.prefix, 1, 1)):
            assert store.read_task_run(id) is None
            assert id == run.id or store.read_states(id) == []
        assert store.read_task_runs(uuid4()) == []
        assert store.count_task_runs(uuid4()) == []
        assert list(store.task_run_times(uuid4())) == []
        assert store.read_task_groups(uuid4()) == []

    def test_groups_are_read_back_whole_and_in_order(self, store: Store) -> None:
        run, _ = recorded(store)
        policy = TaskPolicy(2, (1.0, 5.0), 0.5, 30.0, True, 3600.0)
        upstream = TaskRunResult(uuid4())
        made = group(
            run.id,
            40,
            task_version="7",
            tags=frozenset({"a", "ü"}),
            policy=policy,
            task_inputs={"x": [upstream], "p": [TaskRunResult(uuid4(), "parameter")]},
            first_index=12,
        )
        child = group(run.id, kind="subflow", task_key="census.rank", task_name="rank")
        store.apply([TaskRunsCreated(made), TaskRunsCreated(child)])
        read, second = store.read_task_groups(run.id)
        fields = set(made.__slots__) - {"__weakref__"}
        assert {name: getattr(read, name) for name in fields} == {name: getattr(made, name) for name in fields}
        assert second.kind == "subflow"
        task_run = store.read_task_run(made.run_id(39))
        assert task_run is not None
        assert (task_run.name, task_run.dynamic_key, task_run.task_version) == ("measure-51", "51", "7")
        assert (task_run.tags, task_run.policy) == ({"a", "ü"}, policy)
        assert task_run.task_inputs["x"] == [upstream]
        stand_in = store.read_task_run(child.run_id(0))
        assert stand_in is not None
        assert stand_in.is_subflow

    def test_what_is_set_for_one_child_stays_with_it_whether_or_not_it_has_a_row(self, store: Store) -> None:
        run, tasks = recorded(store, count=3)
        child, upstream = ids.new_id(), TaskRunResult(uuid4())
        store.apply(
            [
                TaskRunUpdated(tasks, 1, {"name": "second"}),
                TaskRunUpdated(tasks, 1, {"child_flow_run_id": child}),
                *TaskRunScript(tasks, 2).done(),
                TaskRunUpdated(tasks, 2, {"task_inputs": {"y": [upstream]}}),
            ]
        )
        first, second, third = store.read_task_runs(run.id)
        assert (first.name, second.name, third.name) == ("measure-0", "second", "measure-2")
        assert (second.child_flow_run_id, first.child_flow_run_id) == (child, None)
        assert (third.task_inputs, first.task_inputs) == ({"y": [upstream]}, {})

    def test_fields_that_follow_from_the_state_are_read_with_it(self, store: Store) -> None:
        run, tasks = recorded(store, count=2)
        due = State(SCHEDULED).timestamp
        waiting, cached = TaskRunScript(tasks, 0), TaskRunScript(tasks, 1)
        store.apply(
            [
                waiting.to(RUNNING),
                waiting.to(SCHEDULED, "AwaitingRetry", details=StateDetails(scheduled_time=due)),
                cached.to(COMPLETED, "Cached", details=StateDetails(cache_key="k", cache_expiration=due)),
            ]
        )
        first, second = store.read_task_runs(run.id)
        assert (first.expected_start_time, first.run_count, first.flow_run_run_count) == (due, 1, 1)
        assert (second.cache_key, second.cache_expiration, second.total_run_time) == ("k", due, 0.25)
        assert first.worker == "worker-0"

    def test_text_that_utf8_cannot_say_is_stored_with_escapes(self, store: Store) -> None:
        run, tasks = recorded(store, count=300)
        scripts = [TaskRunScript(tasks, index) for index in range(300)]
        entries: list[Entry] = [entry for script in scripts for entry in script.done()]
        entries.append(TaskRunUpdated(tasks, 7, {"name": "file \udce9.py"}))
        entries += [scripts[7].to(FAILED, message="\udce9", new_execution=True)]
        store.apply(entries)
        read = store.read_task_run(tasks.run_id(7))
        assert read is not None
        assert read.state is not None
        assert (read.name, read.state.message) == ("file \\udce9.py", "\\udce9")
        assert sum(count.count for count in store.count_task_runs(run.id)) == 300

    def test_task_runs_of_a_flow_run_that_was_never_recorded_are_refused_by_name(self, store: Store) -> None:
        orphan = group(uuid4(), 2)
        with pytest.raises(StoreError, match=r"'measure' belong to the flow run .* not in the store"):
            store.apply([TaskRunsCreated(orphan)])
        assert orphan.key is None
        with pytest.raises(StoreError, match="does not hold them"):
            store.apply(TaskRunScript(orphan).done())

    def test_a_group_that_comes_from_another_process_is_known_by_its_prefix(self, store: Store) -> None:
        run, tasks = recorded(store, count=2)
        travelled = group(run.id, 2, prefix=tasks.prefix)
        store.apply([TaskRunsCreated(travelled), *TaskRunScript(travelled, 1).done()])
        assert travelled.key == tasks.key
        assert [child.state_name for child in store.read_task_runs(run.id)] == ["Pending", "Completed"]

    def test_calls_of_one_are_read_in_order_however_many_there_are(self, store: Store) -> None:
        run, _ = recorded(store)
        calls = [group(run.id, first_index=index) for index in range(1203)]
        store.apply([TaskRunsCreated(call) for call in calls])
        store.apply([entry for call in calls[::2] for entry in TaskRunScript(call).done()])
        expected = [f"measure-{index}" for index in range(1203)]
        assert _names(store.read_task_runs(run.id)) == expected
        assert _names(store.read_task_runs(run.id, order="desc", limit=3, offset=600)) == expected[::-1][600:603]
        assert _names(store.read_task_runs(run.id, state_types=[COMPLETED])) == expected[::2]
        assert store.count_task_runs(run.id) == [
            TaskRunCount("measure", PENDING, "Pending", 601),
            TaskRunCount("measure", COMPLETED, "Completed", 602),
        ]

    def test_task_runs_of_different_flow_runs_are_kept_apart(self, store: Store) -> None:
        first, tasks = recorded(store, count=2)
        second, _ = recorded(store, count=3)
        store.apply(TaskRunScript(tasks).done())
        assert [len(store.read_task_runs(run.id)) for run in (first, second)] == [2, 3]
        assert {run.flow_run_id for run in store.read_task_runs(second.id)} == {second.id}

    def test_digests_of_inputs_are_read_by_run_and_execution_the_last_recorded_counts(self, store: Store) -> None:
        run, tasks = recorded(store, count=5)
        other, _ = recorded(store, count=1)
        a, b, c, none = (bytes([number]) * 16 for number in (1, 2, 3, 0))
        store.apply([InputsDigested(tasks, 0, 1, a + b + c), InputsDigested(tasks, 4, 1, none)])
        store.apply([InputsDigested(tasks, 1, 2, c)])
        store.apply([InputsDigested(tasks, 1, 1, a), InputsDigested(tasks, 1, 2, b)])
        expected = {(0, 1): a, (1, 1): a, (2, 1): c, (4, 1): none, (1, 2): b}
        assert store.read_input_digests(run.id) == {
            (tasks.run_id(index), execution): digest for (index, execution), digest in expected.items()
        }
        assert store.read_input_digests(other.id) == {}
        assert store.read_input_digests(uuid4()) == {}
