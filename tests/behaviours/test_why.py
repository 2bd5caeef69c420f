"""Why a run is where it is: ``client.why``, and ``core-engine why`` of another process."""

import asyncio
import threading
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from core_engine import flow, pause_flow_run, resume_flow_run, runtime, task
from core_engine.client import Explanation, explanations
from core_engine.exceptions import ObjectNotFound
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import task_input_hash
from runners.concurrent import ConcurrentTaskRunner
from tests.behaviours.helpers import PATIENCE, ask, flow_run_id, read_flow_run, read_task_runs, setting, task_run_id


def why(run: Any) -> Explanation:
    return ask(lambda client: client.why(run))


@task
def give(x: Any = 1) -> Any:
    return x


@pytest.fixture
def gate():
    """Holds tasks back until the test has asked; they are let go at its end in any case."""
    event = threading.Event()
    yield event
    event.set()


@task
def blocks(event: threading.Event, begun: threading.Event | None = None, upstream: Any = None) -> None:
    if begun is not None:
        begun.set()
    assert event.wait(PATIENCE)


def test_a_run_that_ended_says_how():
    @task
    def fails():
        raise ValueError("out of milk")

    @flow
    def parent():
        return fails(return_state=True), give(return_state=True)

    state = parent(return_state=True)
    by_name = {run.name: run.id for run in read_task_runs(state)}
    failed, completed = why(by_name["fails-0"]), why(by_name["give-0"])
    of_flow = why(flow_run_id(state))

    assert failed.reason == completed.reason == of_flow.reason == "ended"
    assert failed.text.startswith("Task run 'fails-0' ended as Failed at ")
    assert "out of milk" in failed.text
    assert completed.text.startswith("Task run 'give-0' ended as Completed at ")
    assert f"Flow run {read_flow_run(state).name!r} ended as Failed at " in of_flow.text


def test_a_cached_run_names_its_key_and_the_run_that_the_value_came_from():
    cached = give.with_options(cache_key_fn=task_input_hash)

    @flow
    def parent():
        return cached(5, return_state=True)

    first, second = parent(), parent()
    third = parent()

    for state in (second, third):
        explanation = why(task_run_id(state))
        assert explanation.reason == "cached"
        assert explanation.details == {
            "cache_key": first.state_details.cache_key,
            "cached_from": str(task_run_id(first)),
        }
        assert first.state_details.cache_key in explanation.text
        assert "by task run 'give-0'" in explanation.text
        assert read_flow_run(first).name in explanation.text


def test_a_cached_run_whose_source_was_deleted_still_says_so():
    from core_engine.backend import open_backend

    cached = give.with_options(cache_key_fn=task_input_hash, persist_result=True)

    @flow
    def parent():
        return cached(5, return_state=True)

    first = parent()
    open_backend().journal.flush()
    ended = read_flow_run(first).end_time.timestamp()
    second = parent()
    open_backend().store.delete_flow_runs(ended + 1e-6)

    assert "has been deleted since" in why(task_run_id(second)).text


def test_a_run_waits_for_its_upstream(gate: threading.Event):
    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        first, second = blocks.submit(gate), blocks.submit(gate)
        waits = give.submit([first, second])
        also = give.submit(wait_for=[first])
        found = why(waits.task_run_id), why(also.task_run_id)
        gate.set()
        return found

    of_two, of_one = parent()

    assert of_two.reason == of_one.reason == "upstream"
    assert of_two.details == {"upstream": ["blocks-0", "blocks-1"], "count": 2}
    assert of_two.text == "Task run 'give-0' waits for 2 upstreams: 'blocks-0', 'blocks-1'."
    assert of_one.text == "Task run 'give-1' waits for its upstream: 'blocks-0'."


@pytest.mark.parametrize("mapped", [False, True])
def test_a_run_waits_for_a_slot_and_says_how_many_are_ahead(mapped: bool, gate: threading.Event):
    ask(lambda client: client.create_concurrency_limit("db", 1))
    limited = blocks.with_options(tags={"db"})
    begun = threading.Event()

    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        first = limited.submit(gate, begun)
        assert begun.wait(PATIENCE)
        if mapped:
            waiting = limited.map([gate] * 3)
        else:
            waiting = [limited.submit(gate) for _ in range(3)]
        found = [why(future.task_run_id) for future in waiting]
        gate.set()
        first.wait()
        return found

    found = parent()

    assert {one.reason for one in found} == {"slot"}
    assert [one.details["ahead"] for one in found] == [0, 1, 2]
    assert all(one.details["tags"] == ["db"] for one in found)
    assert "slot under the concurrency limit of tag 'db'" in found[0].text


def test_a_run_waits_for_its_turn_under_a_sequential_runner():
    found = []

    @task
    def asks(x: int) -> None:
        if x == 1:
            runs = {run.name: run for run in read_task_runs(UUID(runtime.flow_run.id))}
            found.append(why(runs["asks-4"].id))

    @flow(task_runner="sequential")
    def parent():
        asks.map(range(5))
        return 1

    parent()

    assert found[0].reason == "order"
    assert found[0].details == {"ahead": 2}
    assert found[0].text == (
        "Task run 'asks-4' waits for its turn, since the task runner runs one after the other; 2 are ahead of it."
    )


def test_a_run_waits_for_a_worker_and_says_how_many_are_ahead(gate: threading.Event):
    begun = threading.Event()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def parent():
        blocks.submit(gate, begun)
        assert begun.wait(PATIENCE)
        waiting = blocks.map([gate] * 3)
        found = [why(waiting[0].task_run_id), why(waiting[2].task_run_id)]
        gate.set()
        return found

    first, third = parent()

    assert first.reason == third.reason == "runner"
    assert (first.details["ahead"], third.details["ahead"]) == (0, 2)
    assert third.text == (
        "Task run 'blocks-3' waits for a free worker of the concurrent task runner, which executes 1 task run of this "
        "flow run now, of at most 1 at once; 2 are ahead of it."
    )


@pytest.mark.parametrize("way", ["map", "stream"])
def test_an_async_run_waits_for_a_place_in_the_window(way: str, monkeypatch: pytest.MonkeyPatch):
    from runners import concurrent

    monkeypatch.setattr(concurrent, "ASYNC_WINDOW", 2)
    go = threading.Event()

    @task
    async def waits(x: int) -> int:
        while not go.is_set():
            await asyncio.sleep(0.01)
        return x

    def last_that_waits(flow_run: UUID) -> Explanation:
        """Ask until the runs before it have begun."""
        while True:
            runs = {run.name: run for run in read_task_runs(flow_run)}
            if sum(run.state_type == "RUNNING" for run in runs.values()) == 2 and "waits-4" in runs:
                return why(runs["waits-4"].id)
            time.sleep(0.01)

    found = []

    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        flow_run = UUID(runtime.flow_run.id)
        asks = threading.Thread(target=lambda: (found.append(last_that_waits(flow_run)), go.set()))
        asks.start()
        futures = waits.map(range(5)) if way == "map" else list(waits.stream(range(5)))
        asks.join(PATIENCE)
        return [future.result() for future in futures]

    assert parent() == [0, 1, 2, 3, 4]
    assert found[0].reason == "window"
    assert found[0].details == {"runner": "concurrent", "ahead": 2, "executing": 2, "most": 2}
    assert found[0].text == (
        "Task run 'waits-4' waits for a place in the window of the concurrent task runner, which has 2 async task runs "
        "of this flow run under way, of at most 2; 2 are ahead of it."
    )


def test_a_running_run_says_since_when_and_where(gate: threading.Event):
    begun = threading.Event()

    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        future = blocks.submit(gate, begun)
        assert begun.wait(PATIENCE)
        found = why(future.task_run_id), why(future.task_run.flow_run_id)
        gate.set()
        return found

    of_task, of_flow = parent()

    assert of_task.reason == of_flow.reason == "running"
    assert of_task.text.endswith("on worker-1.")
    assert "in its attempt 1" in of_flow.text


def test_a_failed_run_says_when_it_is_tried_again(gate: threading.Event):
    failed = threading.Event()

    @task(retries=3, retry_delay_seconds=3600)
    def fails():
        failed.set()
        raise ValueError("out of milk")

    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        future = fails.submit()
        assert failed.wait(PATIENCE)
        while not future.get_state().is_scheduled():
            failed.wait(0.01)
        found = why(future.task_run_id)
        future.cancel()
        return found, future.wait()

    explanation, _ = parent(return_state=True).result(raise_on_failure=False) or (None, None)

    assert explanation.reason == "retry"
    assert "(retry 1 of 3)" in explanation.text
    assert "out of milk" in explanation.text
    assert explanation.details["due"] in explanation.text


def test_a_run_in_a_paused_flow_waits_for_the_resume():
    found = []

    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        pause_flow_run(timeout=60, poll_interval=60)
        return 1

    thread = threading.Thread(target=lambda: found.append(parent()))
    thread.start()
    run = _until_paused()
    explanation = why(run.id)
    resume_flow_run(run.id)
    thread.join(PATIENCE)

    assert explanation.reason == "paused"
    assert "waits in its process until" in explanation.text
    assert f"core-engine resume {str(run.id)[:8]}" in explanation.text
    assert found == [1]


def _until_paused() -> Any:
    waited = threading.Event()
    for _ in range(1000):
        runs = ask(lambda client: client.read_flow_runs(state_names=["Paused"]))
        if runs:
            return runs[0]
        waited.wait(0.01)
    raise AssertionError("it was not paused")


def test_a_run_that_never_starts_says_why_not(runner: BaseTaskRunner):
    @task
    def fails():
        raise ValueError("no")

    @flow(task_runner=runner)
    def parent():
        return give.submit(fails.submit()).wait()

    state = parent(return_state=True)
    (run,) = [run for run in read_task_runs(state) if run.task_name == "give"]
    explanation = why(run.id)

    assert explanation.reason == "not ready"
    assert "did not reach a COMPLETED state" in explanation.text


def test_a_run_for_later_waits_for_a_process(tmp_path: Any):
    script = tmp_path / "script.py"
    script.write_text("from core_engine import flow\n\n@flow\ndef later():\n    return 1\n")

    async def create(client: Any) -> UUID:
        id = await client.create_deployment("nightly", "later", f"{script}:later")
        return (await client.create_flow_run_from_deployment(id)).id

    id = ask(create)
    explanation = why(id)

    assert explanation.reason == "process"
    assert f"python -m core_engine.engine {id}" in explanation.text


def test_a_subflow_that_runs_is_explained_by_its_own_run():
    found = []

    @flow
    def child():
        (stand_in,) = read_task_runs(parent_id[0])
        found.append(why(stand_in.id))

    parent_id: list[Any] = []

    @flow
    def parent():
        from core_engine import runtime

        parent_id.append(UUID(runtime.flow_run.id))
        child()

    parent()

    assert found[0].reason == "running"


def test_an_unknown_id_is_an_error():
    with pytest.raises(ObjectNotFound, match="flow run or task run"):
        why(uuid4())


def test_a_process_that_does_not_answer_is_said_not_to(gate: threading.Event, monkeypatch: pytest.MonkeyPatch):
    from core_engine.engine import active, requests

    monkeypatch.setattr(active, "active_flow_run", lambda id: None)  # as if this were another process
    monkeypatch.setattr(requests._Watch, "_answer", lambda self, runs: None)
    monkeypatch.setattr(explanations, "ANSWER_SECONDS", 0.01)

    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        waits = give.submit(blocks.submit(gate))
        found = why(waits.task_run_id)
        gate.set()
        return found

    explanation = parent()

    assert explanation.reason == "upstream"
    assert "'blocks-0'" in explanation.text
    assert "does not answer" in explanation.text
    from core_engine.backend import open_backend

    assert open_backend().store.read_requests() == []


@pytest.mark.behaviour("D2")
def test_the_process_of_a_run_answers_requests_of_others(gate: threading.Event, monkeypatch: pytest.MonkeyPatch):
    from core_engine.engine import active

    monkeypatch.setattr(active, "active_flow_run", lambda id: None)  # as if this were another process
    monkeypatch.setattr(explanations, "ANSWER_SECONDS", PATIENCE)
    begun = threading.Event()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def parent():
        blocks.submit(gate, begun)
        assert begun.wait(PATIENCE)
        found = why(blocks.submit(gate).task_run_id)
        gate.set()
        return found

    assert parent().reason == "runner"


def test_asking_costs_a_flow_that_is_not_asked_nothing():
    with setting(LOGGING_LEVEL="ERROR"):

        @flow
        def parent():
            return give(1)

        parent()

    from core_engine.backend import open_backend

    assert open_backend().store.read_requests() == []
