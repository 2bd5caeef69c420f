"""What a worker keeps of what was unpickled, and which value stands where."""

import pickle
from typing import Any, NamedTuple

import pytest

from core_engine import flow, task, unmapped
from core_engine.remote import loading
from core_engine.task_runners import BaseTaskRunner


class One(NamedTuple):
    content: Any


@pytest.fixture(autouse=True)
def nothing_is_kept_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_kept", loading._Kept())


def load(content: bytes) -> Any:
    return loading.load_common(pickle.dumps((content,)), One, {})


@pytest.mark.behaviour("I5")
def test_the_same_bytes_are_unpickled_once() -> None:
    assert load(b"definition") is load(b"definition")


def test_what_was_not_used_for_long_goes_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MOST_KEPT", 2)
    first, second = load(b"1"), load(b"2")
    assert load(b"1") is first

    load(b"3")

    assert load(b"1") is first
    assert load(b"2") is not second


def test_large_contents_count_by_their_bytes_but_the_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MOST_KEPT_BYTES", 1_000)
    first, large = load(b"1"), load(bytes(2_000))

    assert load(bytes(2_000)) is large
    assert load(b"1") is not first


@task
def large(number: int) -> bytes:
    return bytes([number]) * 100_000


@task
def firsts(own: bytes, shared: bytes) -> tuple[int, int]:
    return own[0], shared[0]


@pytest.mark.behaviour("D12")
def test_large_values_of_rows_and_of_all_runs_are_told_apart(task_runner: BaseTaskRunner) -> None:
    @flow(task_runner=task_runner)
    def exchanging() -> list[list[tuple[int, int]]]:
        one, two, three = large.map([1, 2, 3])
        found = [
            firsts.map([two, three], unmapped(one)),
            firsts.map([one, three], unmapped(two)),
            firsts.map([three, three], unmapped(three)),
        ]
        return [[future.result() for future in futures] for futures in found]

    assert exchanging() == [[(2, 1), (3, 1)], [(1, 2), (3, 2)], [(3, 3), (3, 3)]]
