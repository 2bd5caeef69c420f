"""Links from values to the runs that they came from are bounded, and keep nothing alive that can do without (D11)."""

import gc
import logging
import weakref
from typing import Any
from uuid import uuid4

import pytest

from core_engine import flow, lineage, task
from core_engine.lineage import Lineage
from core_engine.schemas.states import COMPLETED, State, StateDetails

pytestmark = pytest.mark.behaviour("D11", "I10")


class Value:
    """What weak references can be made to."""


def state() -> State:
    return State(COMPLETED, state_details=StateDetails(task_run_id=uuid4()))


def run_of(links: Lineage, value: Any) -> Any:
    found = links.find(value)
    return None if found is None else found.state_details.task_run_id


def test_a_link_does_not_keep_a_value_alive_whose_type_allows_that() -> None:
    links, value = Lineage(), Value()
    links.link(state(), value)
    reference = weakref.ref(value)

    del value
    gc.collect()

    assert reference() is None
    assert len(links.links) == 0


def test_values_without_weak_references_are_linked_up_to_a_number_and_the_oldest_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lineage, "MOST_LINKS", 3)
    links = Lineage()
    made = [(state(), [f"value {number}"]) for number in range(5)]
    for one, value in made:
        links.link(one, (value,))

    known = [run_of(links, value) for _, value in made]

    assert len(links.links) <= 3
    assert links.evicted == 10 - len(links.links)
    assert known[0] is None
    assert known[-1] == made[-1][0].state_details.task_run_id


def test_values_without_weak_references_are_linked_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST_BYTES", 250_000)
    links = Lineage()
    made = [(state(), bytes([number]) * 100_000) for number in range(5)]
    for one, value in made:
        links.link(one, value)

    assert [run_of(links, value) is not None for _, value in made] == [False, False, False, True, True]
    assert links.evicted == 3


def test_of_a_large_collection_only_the_first_members_are_linked() -> None:
    links, one, members = Lineage(), state(), [Value() for _ in range(1_500)]
    links.link(one, members)

    assert sum(run_of(links, member) is not None for member in members) == 1_000
    assert run_of(links, members) == one.state_details.task_run_id


def test_an_object_that_two_runs_returned_names_neither_and_one_that_a_run_returned_twice_names_it() -> None:
    links, first, second, shared, own = Lineage(), state(), state(), Value(), Value()
    for one in (first, second):
        links.link(one, shared)
    for _ in range(2):
        links.link(first, own)

    assert links.find(shared) is None
    assert run_of(links, own) == first.state_details.task_run_id


def test_a_flow_is_told_once_when_links_are_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lineage, "MOST_LINKS", 3)

    @task
    def give(x: int) -> list[str]:
        return [f"value {x}"]

    @flow
    def parent() -> int:
        return len([give(x) for x in range(5)])

    with caplog.at_level(logging.INFO, logger="core_engine"):
        assert parent() == 5

    assert caplog.text.count("more values than are remembered") == 1


def test_the_limits_are_those_of_the_decision() -> None:
    assert (lineage.MOST_LINKS, lineage.MOST_BYTES, lineage.MOST_MEMBERS) == (10_000, 64 * 1024 * 1024, 1_000)
