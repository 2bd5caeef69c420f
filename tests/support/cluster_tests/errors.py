"""Errors on a cluster."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core_engine import State, flow, task
from core_engine.exceptions import MissingResult, SerializationError
from core_engine.task_runners import BaseTaskRunner

TwoPlaces = tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]


def run_states(runner: BaseTaskRunner, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


class NotIn:
    """A value, small or large, that cannot be unpickled in one process."""

    def __init__(self, pid: int, size: int) -> None:
        self.pid = pid
        self.size = size

    def __reduce__(self) -> Any:
        return make_not_in, (self.pid, bytes(self.size))


def make_not_in(pid: int, content: bytes) -> NotIn:
    if os.getpid() == pid:
        raise RuntimeError("not here")
    return NotIn(pid, len(content))


class OnlyWhereMade:
    """A large value that no process but the one that made it can unpickle."""

    def __init__(self) -> None:
        self.content = bytes(500_000)

    def __reduce__(self) -> Any:
        return make_again, (os.getpid(), self.content)


def make_again(pid: int, content: bytes) -> OnlyWhereMade:
    if os.getpid() != pid:
        raise RuntimeError("not in this process")
    return OnlyWhereMade()


@task
def double(x: int) -> int:
    return 2 * x


class ErrorsOnACluster:
    """What cannot travel, or is missing on workers: an error that names it, and a cluster that goes on."""

    worker_prefix: ClassVar[str]

    @pytest.mark.behaviour("I7", "D21")
    def test_a_parameter_that_cannot_be_pickled_crashes_its_run_and_is_named(self, task_runner: BaseTaskRunner) -> None:
        @task
        def takes(x: Any) -> int:
            return 1

        good, bad = run_states(task_runner, lambda: takes.map([1, {"a": [threading.Lock()]}]))

        assert good.result() == 1
        assert bad.is_crashed()
        with pytest.raises(SerializationError, match=r"parameter 'x'.*\['a'\]\[0\].*lock"):
            bad.result()

    @pytest.mark.behaviour("I7", "D21")
    def test_a_result_or_exception_that_cannot_be_pickled_fails_its_run_and_is_named(
        self, task_runner: BaseTaskRunner
    ) -> None:
        class Odd(Exception):
            def __init__(self) -> None:
                super().__init__("odd")
                self.lock = threading.Lock()

        @task
        def gives() -> Any:
            return {"lock": threading.Lock()}

        @task
        def raises() -> None:
            raise Odd

        gave, raised = run_states(task_runner, lambda: [gives.submit(), raises.submit()])

        assert gave.is_failed()
        assert raised.is_failed()
        with pytest.raises(SerializationError, match=r"\['lock'\].*lock"):
            gave.result()
        with pytest.raises(Exception, match="Odd: odd"):
            raised.result()

    @pytest.mark.behaviour("D21")
    def test_a_module_that_the_workers_lack_is_named_with_the_worker(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
        (tmp_path / "only_here.py").write_text("class Thing:\n    pass\n")
        with contextlib.ExitStack() as stack:
            sys.path.insert(0, str(tmp_path))
            stack.callback(sys.path.remove, str(tmp_path))
            import only_here  # type: ignore[import-not-found]

            stack.callback(sys.modules.pop, "only_here")

            @task
            def kind(x: Any) -> str:
                return type(x).__name__

            states = run_states(task_runner, lambda: kind.map([1, only_here.Thing(), 3]))

        assert [state.name for state in states] == ["Completed", "Crashed", "Completed"]
        assert "only_here" in (states[1].message or "")
        assert self.worker_prefix in (states[1].message or "")
        with pytest.raises(Exception, match=rf"on worker {re.escape(self.worker_prefix)}\S*: .*only_here"):
            states[1].result()

    @pytest.mark.behaviour("D21", "D12")
    @pytest.mark.parametrize("size", [10, 500_000], ids=["small", "large"])
    def test_a_value_that_cannot_be_unpickled_here_is_an_error_for_who_asks(
        self, task_runner: BaseTaskRunner, size: int
    ) -> None:
        @task
        def gives(pid: int) -> Any:
            return NotIn(pid, size)

        @task
        def sizes(value: Any) -> int:
            return int(value.size)

        def expect_error(one: Any) -> None:
            with pytest.raises((SerializationError, MissingResult), match="RuntimeError: not here"):
                one.result()

        def make() -> Any:
            value = gives.submit(os.getpid())
            expect_error(value)
            # The workers know it.
            return [value, sizes.submit(value), double.submit(2)]

        value, known, other = run_states(task_runner, make)

        assert value.is_completed()
        expect_error(value)
        assert known.result() == size
        assert other.result() == 4


class ErrorsBetweenWorkers:
    """A value that one worker understands and another does not.

    The fixture `two_places` has two contexts: what is submitted in one is executed in another process than what is
    submitted in the other.
    """

    @pytest.mark.behaviour("D21", "D12")
    def test_a_value_that_another_worker_cannot_unpickle_crashes_the_run_that_needs_it(
        self, task_runner: BaseTaskRunner, two_places: TwoPlaces
    ) -> None:
        here, there = two_places

        @task
        def gives() -> Any:
            return OnlyWhereMade()

        @task
        def sizes(value: Any) -> int:
            return len(value.content)

        def make() -> Any:
            with here:
                value = gives.submit()
            with there:
                other = sizes.submit(value)
            return [value, other, double.submit(2)]

        value, other, free = run_states(task_runner, make)

        assert value.is_completed()
        assert other.is_crashed()
        assert "not in this process" in (other.message or "")
        assert free.result() == 4
