"""What a task on a worker can read of its run."""

import threading
from typing import Any

import pytest

from core_engine import flow, runtime, tags, task
from core_engine.remote.flow_facts import LARGEST_PARAMETERS
from core_engine.task_runners import BaseTaskRunner

FIELDS = sorted(runtime.flow_run._FIELDS)


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


@task
def tells() -> tuple[dict[str, Any], str]:
    found = {name: getattr(runtime.flow_run, name) for name in FIELDS}
    found["parameters"]["point"] = found["parameters"]["point"].x
    return found, runtime.task_run.name


@pytest.mark.behaviour("RT-2", "RT-6")
def test_a_task_on_a_worker_reads_of_its_flow_run_what_the_flow_itself_reads(task_runner: BaseTaskRunner):
    @flow(task_runner=task_runner)
    def child(point: Any, number: int = 7) -> Any:
        here = {name: getattr(runtime.flow_run, name) for name in FIELDS}
        return here, tells.submit().result()

    @flow
    def parent() -> Any:
        with tags("nightly", "big"):
            return child(Point(3))

    here, (there, name) = parent()

    assert here["parameters"].pop("point").x == there["parameters"].pop("point") == 3
    assert there == here
    assert there["tags"] == ["big", "nightly"]
    assert there["parameters"] == {"number": 7}
    assert there["parent_flow_run_id"] is not None
    assert name == "tells-0"


@pytest.mark.behaviour("RT-2")
@pytest.mark.parametrize(
    ("make", "reason"),
    [(lambda: b"x" * LARGEST_PARAMETERS, "take more than 64 KiB"), (threading.Lock, "cannot be pickled")],
    ids=["large", "unpicklable"],
)
def test_parameters_that_do_not_travel_say_why(task_runner: BaseTaskRunner, make: Any, reason: str):
    @task
    def asks() -> Any:
        with pytest.raises(RuntimeError, match=rf"not known on this worker: they {reason}.*as a parameter of its own"):
            runtime.flow_run.parameters
        return runtime.flow_run.name

    @flow(task_runner=task_runner)
    def parent(value: Any) -> Any:
        return asks.submit().result() == runtime.flow_run.name

    assert parent(make())


@pytest.mark.behaviour("RT-2")
def test_parameters_of_a_script_travel(task_runner: BaseTaskRunner):
    class Local:
        value = 5

    @task
    def asks() -> Any:
        return runtime.flow_run.parameters["local"].value

    @flow(task_runner=task_runner)
    def parent(local: Any) -> Any:
        return asks.submit().result()

    assert parent(Local()) == 5
