"""Calls and references that the flow's process holds: values are there as long as needed, and no longer (D12)."""

import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from runners.ray.calls import BlockAtOnce, BlockByAndBy, Call, Calls

pytestmark = pytest.mark.behaviour("D12", "D31")


class Generator:
    """Stands for the generator of a block that leaves values."""

    def __init__(self, *references: str) -> None:
        self._references = iter(references)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._references)


class Held(Calls):
    """Calls, of which there is one; knows whether it is still held."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.add(call)
        self._call = weakref.ref(call)

    @property
    def is_holding(self) -> bool:
        return self._call() is not None


def nothing_done(content: Any, error: Any) -> None:
    """Nobody waits for the call."""


def by_and_by(*references: str) -> Held:
    return Held(BlockByAndBy("block", nothing_done, Generator(*references)))


def test_values_can_be_asked_for_until_the_last_of_their_call_is_let_go() -> None:
    calls = by_and_by("a", "b")
    assert calls.reference("block#1") == "b"
    calls.end("block", values=2)
    assert calls.reference("block#0") == "a"
    calls.release("block#1")
    assert calls.reference("block#0") == "a"
    assert calls.is_holding
    calls.release("block#0")

    assert not calls.is_holding
    with pytest.raises(LookupError):
        calls.reference("block#0")


def test_a_value_that_is_let_go_while_its_block_goes_on_is_not_waited_for_afterwards() -> None:
    calls = by_and_by("a", "b")
    calls.reference("block#0")
    calls.release("block#0")
    calls.end("block", values=2)
    calls.reference("block#1")
    assert calls.is_holding
    calls.release("block#1")

    assert not calls.is_holding


def test_the_value_of_a_single_run_is_let_go_with_its_call() -> None:
    calls = Held(BlockAtOnce("one", nothing_done, ["report", "value"]))
    calls.end("one", values=1)
    assert calls.reference("one#0") == "value"
    calls.release("one#0")

    assert not calls.is_holding


def test_a_call_that_leaves_nothing_is_forgotten_when_it_is_over() -> None:
    calls = by_and_by()
    assert calls.end("block") is not None
    assert calls.end("block") is None

    assert not calls.is_holding


def test_a_value_that_was_lost_with_its_worker_is_missed_and_not_waited_for() -> None:
    calls = by_and_by("a")
    assert calls.reference("block#0") == "a"

    with pytest.raises(LookupError, match="lost with its worker"):
        calls.reference("block#1")
