"""PAUSE: flow runs that are paused and resumed."""

import asyncio
import threading
from typing import Any

import pytest

from core_engine import flow, pause_flow_run, resume_flow_run, task
from core_engine.context import get_run_context
from core_engine.engine.active import active_flow_run, active_flow_runs
from core_engine.exceptions import FailedRun, FlowPauseTimeout, NotPausedError
from core_engine.states import Completed
from core_engine.task_runners import BaseTaskRunner, TaskConcurrencyType
from core_engine.testing import leaping_clock
from tests.behaviours.helpers import (
    ask,
    flow_history,
    read_flow_run,
    read_flow_runs,
    read_task_runs,
    stored_flow_state,
    takes_less_than,
    task_history,
    wait_until_set,
)

LONG_SECONDS = 3_600


@task
def passes(value: Any = 1) -> Any:
    return value


def in_thread(function: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def when_paused(action: Any) -> threading.Thread:
    """Call `action` with the id of the only flow run once that is paused, in a thread of its own."""

    def wait() -> None:
        while True:
            paused = [run for run in active_flow_runs() if run.progress.state.is_paused()]
            if paused:
                action(paused[0].id)
                return
            threading.Event().wait(0.001)

    return in_thread(wait)


@pytest.mark.behaviour("PAUSE-1", "PAUSE-2", "PAUSE-14")
def test_a_sync_flow_blocks_in_a_pause_until_it_is_resumed(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    def parent():
        before = passes.submit(1)
        pause_flow_run(timeout=LONG_SECONDS, poll_interval=LONG_SECONDS)
        return before.result(), passes(2)

    resumer = when_paused(resume_flow_run)
    with takes_less_than(10):
        state = parent(return_state=True)
    resumer.join()

    assert state.result() == (1, 2)
    assert flow_history(state) == ["Pending", "Running", "Paused", "Running", "Completed"]
    assert read_flow_run(state).run_count == 1


@pytest.mark.behaviour("PAUSE-1", "PAUSE-2")
@pytest.mark.anyio
async def test_an_async_flow_waits_in_a_pause_while_its_loop_goes_on():
    @flow
    async def parent():
        async def resumes() -> None:
            run = get_run_context().run
            while not run.progress.state.is_paused():
                await asyncio.sleep(0)
            await resume_flow_run(run.id)

        other = asyncio.create_task(resumes())
        await pause_flow_run(timeout=LONG_SECONDS, poll_interval=LONG_SECONDS)
        await other
        return passes()

    assert await parent() == 1


@pytest.mark.behaviour("PAUSE-1")
def test_what_runs_goes_on_and_what_is_submitted_waits_while_a_flow_is_paused():
    started, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    calls: list[str] = []

    @task
    def runs():
        started.set()
        wait_until_set(may_end)
        ended.set()

    @task
    def waits(name):
        calls.append(name)

    @flow
    def parent():
        runs.submit()
        wait_until_set(started)
        context = get_run_context()

        def submits() -> None:
            with context.copy():
                waits.submit("submitted")
                waits.map(["mapped"] * 3)
            may_end.set()
            wait_until_set(ended)
            assert calls == []
            assert len(read_task_runs(context.flow_run.id)) == 5
            resume_flow_run(context.flow_run.id)

        helper = when_paused(lambda id: submits())
        pause_flow_run(timeout=LONG_SECONDS)
        helper.join()

    state = parent(return_state=True)
    assert state.is_completed()
    assert sorted(calls) == ["mapped"] * 3 + ["submitted"]


@pytest.mark.behaviour("PAUSE-1")
def test_a_retry_that_is_due_waits_until_the_flow_goes_on():
    started, may_fail = threading.Event(), threading.Event()
    calls: list[int] = []

    @task(retries=1)
    def fails_once():
        calls.append(len(calls))
        if len(calls) == 1:
            started.set()
            wait_until_set(may_fail)
            raise ValueError

    def lets_fail(id: Any) -> None:
        may_fail.set()
        run = active_flow_run(id)
        while not any(run_set.waiting for run_set in run.open_sets()):
            threading.Event().wait(0.001)
        assert len(calls) == 1
        resume_flow_run(id)

    @flow
    def parent():
        future = fails_once.submit()
        wait_until_set(started)
        helper = when_paused(lets_fail)
        pause_flow_run(timeout=LONG_SECONDS)
        helper.join()
        future.wait()

    assert parent(return_state=True).is_completed()
    assert len(calls) == 2


@pytest.mark.behaviour("PAUSE-3")
def test_a_flow_that_nobody_resumes_fails():
    caught: list[BaseException] = []

    @flow
    def parent():
        try:
            pause_flow_run(timeout=0.02)
        except FlowPauseTimeout as error:
            caught.append(error)
            raise
        passes()

    with pytest.raises(FailedRun, match="paused and never resumed"):
        parent()
    (run,) = read_flow_runs()
    assert run.state.is_failed()
    assert "never resumed" in run.state.message
    assert read_task_runs(run.id) == []
    assert len(caught) == 1


@pytest.mark.behaviour("PAUSE-3")
def test_nothing_starts_in_a_flow_that_swallows_the_end_of_its_pause():
    @flow
    def parent():
        try:
            pause_flow_run(timeout=0.02)
        except FlowPauseTimeout:
            passes()

    state = parent(return_state=True)
    assert state.is_failed()
    assert read_task_runs(state) == []


@pytest.mark.behaviour("PAUSE-4")
def test_a_task_cannot_be_paused():
    @task
    def pauses():
        pause_flow_run()

    @flow
    def parent():
        pauses()

    with pytest.raises(RuntimeError, match="[Tt]asks cannot be paused"):
        parent()


@pytest.mark.behaviour("PAUSE-4")
def test_there_is_nothing_to_pause_outside_of_a_flow():
    with pytest.raises(RuntimeError, match="no flow run"):
        pause_flow_run()


@pytest.mark.parametrize("wrong", [{"timeout": -1}, {"timeout": float("nan")}, {"poll_interval": 0}])
def test_seconds_that_are_none_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        pause_flow_run(**wrong)


@pytest.mark.behaviour("PAUSE-5")
@pytest.mark.parametrize(
    ("timeout", "poll_interval", "waits"), [(100, 30, [30, 30, 30, 10]), (10, 8, [5, 5]), (60, 100, [30, 30])]
)
def test_the_first_look_comes_after_half_the_time_at_most(timeout: float, poll_interval: float, waits: list[float]):
    @flow
    def parent():
        pause_flow_run(timeout=timeout, poll_interval=poll_interval)

    with leaping_clock() as clock:
        assert parent(return_state=True).is_failed()
    assert clock.waits == pytest.approx(waits, abs=0.5)


@pytest.mark.behaviour("PAUSE-6")
def test_a_key_pauses_a_flow_once():
    @flow
    def parent():
        pause_flow_run(timeout=LONG_SECONDS, key="approval")
        pause_flow_run(timeout=LONG_SECONDS, key="approval")
        return "went on"

    resumer = when_paused(resume_flow_run)
    state = parent(return_state=True)
    resumer.join()
    assert state.result() == "went on"
    assert flow_history(state).count("Paused") == 1
    assert read_flow_run(state).pause_keys == {"approval"}


@pytest.mark.behaviour("PAUSE-6")
def test_pauses_without_a_key_are_counted():
    @flow
    def parent():
        for _ in range(2):
            resumer = when_paused(resume_flow_run)
            pause_flow_run(timeout=LONG_SECONDS)
            resumer.join()

    state = parent(return_state=True)
    assert flow_history(state).count("Paused") == 2
    assert read_flow_run(state).pause_keys == {"1", "2"}


@pytest.mark.behaviour("PAUSE-8")
def test_a_flow_without_a_deployment_cannot_leave_its_process():
    @flow
    def parent():
        pause_flow_run(reschedule=True)

    state = parent(return_state=True)
    with pytest.raises(RuntimeError, match="deployment"):
        state.result()
    assert "Paused" not in flow_history(state)


@pytest.mark.behaviour("PAUSE-8")
def test_a_subflow_cannot_leave_its_process():
    @flow
    def child():
        pause_flow_run(reschedule=True)

    @flow
    def parent():
        return child()

    with pytest.raises(RuntimeError, match="subflow"):
        parent()


def test_a_subflow_is_paused_by_itself():
    @flow
    def child():
        pause_flow_run(timeout=LONG_SECONDS)
        return passes()

    @flow
    def parent():
        return child()

    resumer = when_paused(resume_flow_run)
    state = parent(return_state=True)
    resumer.join()
    assert state.result() == 1
    assert "Paused" not in flow_history(state)
    (stand_in,) = read_task_runs(state)
    assert task_history(stand_in.id) == ["Pending", "Running", "Paused", "Running", "Completed"]


def test_a_flow_without_a_deployment_is_held_where_it_runs_when_it_is_paused_from_outside(runner: BaseTaskRunner):
    @flow
    def child():
        return "child"

    @flow(task_runner=runner)
    def parent():
        run = get_run_context().run
        pause_flow_run(flow_run_id=run.id, timeout=LONG_SECONDS)
        assert run.progress.state.is_paused()
        resumer = in_thread(resume_flow_run, run.id)
        values = passes(1), passes.submit(2).result(), child()
        resumer.join()
        return values

    state = parent(return_state=True)
    assert state.result() == (1, 2, "child")
    assert flow_history(state) == ["Pending", "Running", "Paused", "Running", "Completed"]


class PlainRunner(BaseTaskRunner):
    """Has only the members that every runner must have."""

    @property
    def concurrency_type(self) -> TaskConcurrencyType:
        return TaskConcurrencyType.CONCURRENT

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Any, Any] = {}

    async def submit(self, key: Any, call: Any) -> None:
        self.calls[key] = call

    async def wait(self, key: Any, timeout: float | None = None) -> Any:
        return await self.calls[key]()


def test_what_a_plain_runner_is_to_run_waits_as_well():
    @flow(task_runner=PlainRunner())
    def parent():
        run = get_run_context().run
        pause_flow_run(flow_run_id=run.id, timeout=LONG_SECONDS)
        futures = passes.map([1, 2, 3])
        assert all(state.is_pending() for state in (future.get_state() for future in futures))
        resume_flow_run(run.id)
        return [future.result() for future in futures]

    assert parent() == [1, 2, 3]


def test_nothing_is_lost_when_a_flow_is_paused_and_resumed_again_and_again(runner: BaseTaskRunner):
    @task
    async def passes_later(value: int) -> int:
        return value

    @flow(task_runner=runner)
    def parent():
        run, ended, times = get_run_context().run, threading.Event(), []

        def pauses() -> None:
            while not ended.is_set():
                pause_flow_run(flow_run_id=run.id, timeout=LONG_SECONDS)
                resume_flow_run(run.id)
                times.append(1)

        helper = in_thread(pauses)
        values = [future.result() for one in (passes, passes_later) for future in one.map(range(50))]
        values += [passes(value) for value in range(10)]
        ended.set()
        helper.join()
        assert times
        return values

    assert parent() == [*range(50), *range(50), *range(10)]


def test_a_run_with_a_limited_tag_waits_without_its_slot():
    from core_engine import get_client

    limited = passes.with_options(tags={"narrow"})
    ask(lambda client: client.create_concurrency_limit("narrow", 1))

    @flow
    def parent():
        run = get_run_context().run
        pause_flow_run(flow_run_id=run.id, timeout=LONG_SECONDS)
        futures = limited.map([1, 2, 3])
        resume_flow_run(run.id)
        return [future.result() for future in futures], get_client().store.read_concurrency_limits()

    assert parent() == ([1, 2, 3], {"narrow": 1})


def test_a_flow_that_is_held_where_it_runs_fails_at_its_deadline():
    @flow
    def parent():
        pause_flow_run(flow_run_id=get_run_context().flow_run.id, timeout=0.05)
        return passes()

    state = parent(return_state=True)
    assert state.is_failed()
    assert "never resumed" in state.message
    (task_run,) = read_task_runs(state)
    assert task_run.state.is_cancelled()


@pytest.mark.behaviour("PAUSE-12")
def test_a_task_that_returns_a_paused_state_pauses_its_flow():
    from core_engine.exceptions import PausedRun
    from core_engine.states import Paused

    asked = Paused(timeout_seconds=60, pause_key="asked")

    @task
    def asks():
        return asked.copy()

    @flow
    def parent():
        asks()
        passes()

    state = parent(return_state=True)
    assert state.is_paused()
    details = stored_flow_state(state).state_details
    assert details.pause_timeout == asked.state_details.pause_timeout
    assert (details.pause_key, details.pause_reschedule) == ("asked", False)
    assert len(read_task_runs(state)) == 1
    assert read_flow_run(state).owner is None
    with pytest.raises(PausedRun):
        parent()
    with pytest.raises(RuntimeError, match="no deployment"):
        resume_flow_run(state.state_details.flow_run_id)


@pytest.mark.behaviour("PAUSE-13")
def test_only_a_paused_flow_is_resumed():
    @flow
    def ends():
        return Completed()

    state = ends(return_state=True)
    with pytest.raises(NotPausedError, match="not paused"):
        resume_flow_run(state.state_details.flow_run_id)
    with pytest.raises(RuntimeError, match="only a running one"):
        pause_flow_run(flow_run_id=state.state_details.flow_run_id)


@pytest.mark.behaviour("PAUSE-13")
def test_a_resume_after_the_deadline_comes_too_late():
    from core_engine.states import Paused

    @flow
    def gives():
        return Paused(timeout_seconds=0)

    @flow
    def held():
        pause_flow_run(flow_run_id=get_run_context().flow_run.id, timeout=LONG_SECONDS)
        with leaping_clock() as clock:
            clock.leap(2 * LONG_SECONDS)
            with pytest.raises(FlowPauseTimeout, match="never resumed"):
                resume_flow_run(get_run_context().flow_run.id)

    assert held(return_state=True).is_failed()


def test_a_paused_flow_is_cancelled():
    from core_engine.engine.cancellation import cancel_flow_run

    @flow
    def parent():
        pause_flow_run(timeout=LONG_SECONDS, poll_interval=LONG_SECONDS)

    canceller = when_paused(lambda id: cancel_flow_run(active_flow_run(id)))
    with takes_less_than(10):
        state = parent(return_state=True)
    canceller.join()
    assert state.is_cancelled()


def test_the_time_limit_of_a_flow_ends_its_pause():
    @flow(timeout_seconds=0.1)
    def parent():
        pause_flow_run(timeout=LONG_SECONDS, poll_interval=LONG_SECONDS)

    with takes_less_than(10):
        state = parent(return_state=True)
    assert state.name == "TimedOut"


@pytest.mark.behaviour("PAUSE-10")
def test_a_pause_from_outside_reaches_subflows_that_run_already(runner: BaseTaskRunner):
    begun, may_go_on, paused = threading.Event(), threading.Event(), threading.Event()
    calls: list[str] = []

    @task
    def step(name):
        calls.append(name)

    @flow(task_runner=runner)
    def grandchild():
        step("before")
        begun.set()
        wait_until_set(may_go_on)
        step.submit("after").wait()

    @flow(task_runner=runner)
    def child():
        grandchild()

    @flow(task_runner=runner)
    def parent():
        child()
        return get_run_context().flow_run.id

    def others() -> None:
        wait_until_set(begun)
        root = next(run for run in active_flow_runs() if run.parent is None)
        pause_flow_run(flow_run_id=root.id, timeout=LONG_SECONDS)
        states = {run.flow.name: run.progress.state.name for run in active_flow_runs()}
        assert states == {"parent": "Paused", "child": "Paused", "grandchild": "Paused"}
        may_go_on.set()
        # It comes to its next task run, which is held.
        while not any(run_set.unsettled() for run in active_flow_runs() for run_set in run.open_sets()):
            threading.Event().wait(0.001)
        assert calls == ["before"]
        paused.set()
        resume_flow_run(root.id)

    helper = in_thread(others)
    state = parent(return_state=True)
    helper.join()

    assert state.is_completed()
    assert paused.is_set()
    assert calls == ["before", "after"]
    for name in ("parent", "child", "grandchild"):
        (run,) = read_flow_runs(flow_name=name)
        assert flow_history(run.id) == ["Pending", "Running", "Paused", "Running", "Completed"]
        assert run.run_count == 1


@pytest.mark.behaviour("PAUSE-10")
def test_a_subflow_that_is_paused_by_itself_stays_so_when_its_parent_goes_on():
    calls: list[str] = []

    @flow
    def child():
        pause_flow_run(timeout=LONG_SECONDS, poll_interval=LONG_SECONDS)
        calls.append("went on")

    @flow
    def parent():
        child()

    def others(id: Any) -> None:
        root = next(run for run in active_flow_runs() if run.parent is None)
        pause_flow_run(flow_run_id=root.id, timeout=LONG_SECONDS)
        resume_flow_run(root.id)
        assert read_flow_run(id).state.is_paused()
        calls.append("resumed")
        resume_flow_run(id)

    helper = when_paused(others)
    assert parent(return_state=True).is_completed()
    helper.join()
    assert calls == ["resumed", "went on"]


@pytest.mark.behaviour("PAUSE-10")
def test_subflows_end_with_the_deadline_of_a_pause_from_outside():
    begun, may_go_on = threading.Event(), threading.Event()
    calls: list[str] = []

    @task
    def step(name):
        calls.append(name)

    @flow
    def child():
        begun.set()
        wait_until_set(may_go_on)
        step.submit("after").wait()

    @flow
    def parent():
        child()

    def others() -> None:
        wait_until_set(begun)
        root = next(run for run in active_flow_runs() if run.parent is None)
        pause_flow_run(flow_run_id=root.id, timeout=0.05)
        may_go_on.set()

    helper = in_thread(others)
    state = parent(return_state=True)
    helper.join()

    assert state.is_failed()
    assert calls == []
