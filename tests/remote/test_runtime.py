"""What a task on a worker can read of its run."""

import pytest

from core_engine import flow, runtime, task
from core_engine.task_runners import BaseTaskRunner


@pytest.mark.behaviour("RT-2")
def test_on_a_worker_the_flow_runs_names_are_known_and_nothing_is_read_from_a_database(task_runner: BaseTaskRunner):
    @task
    def tells() -> object:
        known = (runtime.flow_run.id, runtime.flow_run.name, runtime.flow_run.flow_name, runtime.flow_run.run_count)
        with pytest.raises(RuntimeError, match="worker"):
            runtime.flow_run.parameters
        return known, runtime.task_run.name

    @flow(task_runner=task_runner)
    def parent() -> object:
        return tells.submit().result(), (runtime.flow_run.id, runtime.flow_run.name, "parent", 1)

    (seen, name), known = parent()

    assert (seen, name) == (known, "tells-0")
