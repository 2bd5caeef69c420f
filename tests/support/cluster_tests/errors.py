"""Errors on a cluster."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core_engine import State, flow, task
from core_engine.exceptions import SerializationError
from core_engine.task_runners import BaseTaskRunner


def run_states(runner: BaseTaskRunner, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


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
