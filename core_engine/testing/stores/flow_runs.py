"""Flow runs as read back: every field, filters, names and beginnings of ids."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from core_engine import ids
from core_engine.backend.entries import FlowRunChanged, FlowRunCreated, FlowRunUpdated
from core_engine.backend.store import Store
from core_engine.exceptions import ObjectNotFound
from core_engine.results import LiteralResult
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import COMPLETED, FAILED, PENDING, RUNNING, State
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import START, flow_run, moved, recorded, said
from core_engine.testing.stores.suite import StoreSuite

_NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)


class FlowRunsSuite(StoreSuite):
    """Recording and reading flow runs."""

    def test_every_field_of_a_flow_run_is_read_back(self, store: Store) -> None:
        run = flow_run(
            flow_version="3",
            parameters={"limit": 5, "path": "<PosixPath>", "nested": {"a": [1, None, "ü"]}},
            tags={"nightly", "ü"},
            retries=2,
            retry_delay_seconds=0.5,
            expected_start_time=_NOW,
            next_scheduled_start_time=_NOW + timedelta(seconds=1),
            parent_task_run_id=uuid4(),
            deployment_id=uuid4(),
            task_runner="concurrent",
            owner="host-1-abc",
            pause_keys={"a"},
            resuming=True,
        )
        store.apply([FlowRunCreated(run)])
        read = store.read_flow_run(run.id)
        assert read is not None
        assert replace(read, state=None) == replace(run, state=None)
        assert said(read.state) == said(run.state)

    def test_a_change_brings_state_counts_and_times_and_leaves_the_history(self, store: Store) -> None:
        run = flow_run()
        running = moved(run, RUNNING, at=START + 1, run_count=1, start_time=_NOW, owner="host-1-abc")
        ended = moved(
            running,
            COMPLETED,
            at=START + 5.25,
            end_time=_NOW + timedelta(seconds=4),
            total_run_time=4.0,
            owner=None,
            data=LiteralResult(True),
            message="All states completed.",
        )
        store.apply([FlowRunCreated(run), FlowRunChanged(running)])
        store.apply([FlowRunChanged(ended)])
        read = store.read_flow_run(run.id)
        assert read is not None
        assert replace(read, state=None) == replace(ended, state=None)
        assert said(read.state) == said(ended.state)
        assert read.state is not None
        assert read.state.data == LiteralResult(True)

    def test_fields_are_set_without_a_change_of_state(self, store: Store) -> None:
        run, _ = recorded(store)
        store.apply([FlowRunUpdated(run.id, {"name": "renamed", "tags": {"x"}, "owner": "host-2-def"})])
        read = store.read_flow_run(run.id)
        assert read is not None
        assert (read.name, read.tags, read.owner, read.state_type) == ("renamed", {"x"}, "host-2-def", PENDING)

    def test_a_field_that_there_is_not_is_refused_by_name(self, store: Store) -> None:
        run, _ = recorded(store)
        with pytest.raises(ValueError, match="cannot set \\['state'\\]"):
            store.apply([FlowRunUpdated(run.id, {"state": None})])

    def test_parameters_that_json_cannot_say_stand_as_the_names_of_their_types(self, store: Store) -> None:
        loop: list[Any] = []
        loop.append(loop)
        run = flow_run(parameters={"f": object(), "s": {1}, "t": (1, 2), "k": {(1, 2): 3}, "loop": loop})
        store.apply([FlowRunCreated(run)])
        read = store.read_flow_run(run.id)
        assert read is not None
        assert read.parameters["f"] == "<object>"
        assert (read.parameters["s"], read.parameters["t"]) == ([1], [1, 2])
        assert read.parameters["k"] == {"(1, 2)": 3}
        assert "<list>" in str(read.parameters["loop"])

    def test_a_state_made_outside_of_the_engine_is_numbered_and_recorded_once(self, store: Store) -> None:
        run, _ = recorded(store)
        entry = FlowRunChanged(replace(run, state=State(RUNNING, message="by hand")))
        store.apply([entry])
        store.apply([entry, entry])
        assert [(state.name, state._ordinal) for state in store.read_states(run.id)] == [("Pending", 1), ("Running", 2)]

    @holds("I2")
    def test_a_flow_run_that_is_created_again_stays_as_it_was(self, store: Store) -> None:
        run, _ = recorded(store)
        store.apply([FlowRunChanged(moved(run, RUNNING, at=START + 1))])
        store.apply([FlowRunCreated(run), FlowRunChanged(moved(run, FAILED, at=START + 2))])
        read = store.read_flow_run(run.id)
        assert read is not None
        assert read.state_type is RUNNING
        assert len(store.read_states(run.id)) == 2

    @pytest.fixture
    def several(self, store: Store) -> list[FlowRun]:
        """Five flow runs, made one second apart."""
        parent = ids.new_id()
        fields: list[dict[str, Any]] = [
            {"name": "calm-fox", "tags": {"a"}},
            {"name": "calm-owl", "tags": {"a", "b"}, "flow_name": "rank"},
            {"name": "warm-owl", "flow_name": "rank", "parent_task_run_id": parent},
            {"name": "warm-fox", "tags": {"b"}},
            {"name": "warm-fox", "tags": {"a%"}},
        ]
        runs = []
        for index, chosen in enumerate(fields):
            run = flow_run(created=datetime.fromtimestamp(START + index, UTC), **chosen)
            store.apply([FlowRunCreated(run)])
            runs.append(run)
        ends = [(COMPLETED, None), (FAILED, None), (COMPLETED, "Rolled up")]
        for run, (type, name) in zip(runs, ends, strict=False):
            store.apply([FlowRunChanged(moved(run, type, at=START + 60, name=name))])
        return runs

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, [4, 3, 2, 1, 0]),
            ({"order": "asc"}, [0, 1, 2, 3, 4]),
            ({"limit": 2}, [4, 3]),
            ({"limit": 2, "offset": 2}, [2, 1]),
            ({"offset": 4}, [0]),
            ({"name": "warm-fox"}, [4, 3]),
            ({"flow_name": "rank"}, [2, 1]),
            ({"state_types": [COMPLETED]}, [2, 0]),
            ({"state_types": ["FAILED", PENDING]}, [4, 3, 1]),
            ({"state_types": []}, []),
            ({"state_names": ["Completed"]}, [0]),
            ({"state_names": ["Rolled up", "Failed"]}, [2, 1]),
            ({"tags": ["a"]}, [1, 0]),
            ({"tags": ["a", "b"]}, [1]),
            ({"tags": ["a%"]}, [4]),
            ({"since": START + 3}, [4, 3]),
            ({"before": START + 2}, [1, 0]),
            ({"since": START + 1, "before": START + 3, "flow_name": "rank"}, [2, 1]),
        ],
    )
    def test_flow_runs_are_filtered(
        self, store: Store, several: list[FlowRun], filters: dict[str, Any], expected: list[int]
    ) -> None:
        assert [run.id for run in store.read_flow_runs(**filters)] == [several[index].id for index in expected]

    def test_subflow_runs_are_found_by_the_task_run_that_stands_for_them(
        self, store: Store, several: list[FlowRun]
    ) -> None:
        parent = several[2].parent_task_run_id
        assert [run.id for run in store.read_flow_runs(parent_task_run_id=parent)] == [several[2].id]

    def test_a_flow_run_is_meant_by_its_id_the_beginning_of_it_or_its_name(
        self, store: Store, several: list[FlowRun]
    ) -> None:
        id = several[1].id
        for text in (str(id), id.hex, str(id).upper(), str(id)[:11], f" {id.hex[:8]} ", "calm-owl"):
            assert store.resolve_flow_run_id(text) == id

    def test_several_flow_runs_of_one_name_are_listed_instead_of_one_being_chosen(
        self, store: Store, several: list[FlowRun]
    ) -> None:
        with pytest.raises(ObjectNotFound) as raised:
            store.resolve_flow_run_id("warm-fox")
        assert str(several[3].id) in str(raised.value)
        assert str(several[4].id) in str(raised.value)

    def test_a_beginning_of_several_ids_lists_them(self, store: Store) -> None:
        runs = [flow_run(id=UUID(int=(0xABCDEF << 104) | (number << 60))) for number in range(8)]
        store.apply([FlowRunCreated(run) for run in runs])
        with pytest.raises(ObjectNotFound, match=r"Several flow runs are meant by 'abcdef': .* and others"):
            store.resolve_flow_run_id("abcdef")

    @pytest.mark.parametrize("text", ["no-such", "abc", "", "zzzz", "abcdef0123456789" * 3])
    def test_what_names_no_flow_run_is_said_so(self, store: Store, several: list[FlowRun], text: str) -> None:
        with pytest.raises(ObjectNotFound, match="No flow run is named"):
            store.resolve_flow_run_id(text)
