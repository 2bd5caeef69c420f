"""FLOW-HOOK: hooks of flows."""

import logging
import os
import signal
import threading
from functools import partial
from typing import Any

import pytest

from core_engine import Flow, flow
from core_engine.exceptions import TerminationSignal
from core_engine.states import Cancelling, Completed, Crashed, Failed
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import PATIENCE, read_flow_run, stored_flow_state


class CustomError(Exception):
    pass


class Calls(list[str]):
    """Makes hooks that note their own calls."""

    def hook(self, name: str) -> Any:
        def noting_hook(flow, flow_run, state):
            self.append(name)

        noting_hook.__name__ = name
        return noting_hook

    def async_hook(self, name: str) -> Any:
        async def noting_hook(flow, flow_run, state):
            self.append(name)

        noting_hook.__name__ = name
        return noting_hook


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.mark.behaviour("FLOW-HOOK-1")
def test_hooks_get_flow_flow_run_and_state_as_keywords_after_the_final_state_was_accepted():
    seen: list[Any] = []

    def hook(**given):
        seen.append((given, read_flow_run(given["flow_run"].id).state_name))

    @flow(on_completion=[hook])
    def hooked():
        return 1

    state = hooked(return_state=True)
    ((given, stored_name),) = seen

    assert set(given) == {"flow", "flow_run", "state"}
    assert isinstance(given["flow"], Flow)
    assert given["flow"].name == "hooked"
    assert given["flow_run"].id == state.state_details.flow_run_id
    assert given["state"].is_completed()
    assert stored_name == "Completed"


@pytest.mark.behaviour("FLOW-HOOK-1")
def test_hooks_run_in_the_order_of_the_list(calls: Calls):
    @flow(on_completion=[calls.hook("first"), calls.hook("second"), calls.hook("third")])
    def hooked():
        return 1

    hooked()

    assert calls == ["first", "second", "third"]


@pytest.mark.behaviour("FLOW-HOOK-2")
def test_a_completed_flow_runs_only_its_completion_hooks(calls: Calls):
    @flow(on_completion=[calls.hook("completion")], on_failure=[calls.hook("failure")])
    def hooked():
        return 1

    hooked()

    assert calls == ["completion"]


@pytest.mark.behaviour("FLOW-HOOK-2")
def test_a_failed_flow_runs_only_its_failure_hooks(calls: Calls):
    @flow(on_completion=[calls.hook("completion")], on_failure=[calls.hook("failure")])
    def hooked():
        raise CustomError("no")

    hooked(return_state=True)

    assert calls == ["failure"]


@pytest.mark.behaviour("FLOW-HOOK-2")
def test_a_timed_out_flow_runs_its_failure_hooks(calls: Calls):
    @flow(timeout_seconds=0.1, on_failure=[calls.hook("failure")])
    def hooked():
        threading.Event().wait(PATIENCE)

    assert hooked(return_state=True).name == "TimedOut"
    assert calls == ["failure"]


@pytest.mark.behaviour("FLOW-HOOK-3")
def test_failure_hooks_run_once_after_the_last_retry(calls: Calls):
    executions = []

    @flow(retries=2, on_failure=[calls.hook("failure")])
    def hooked():
        executions.append(len(calls))
        raise CustomError("no")

    hooked(return_state=True)

    assert executions == [0, 0, 0]
    assert calls == ["failure"]


@pytest.mark.behaviour("FLOW-HOOK-3")
def test_failure_hooks_do_not_run_when_a_retry_succeeds(calls: Calls):
    executions = []

    @flow(retries=1, on_failure=[calls.hook("failure")], on_completion=[calls.hook("completion")])
    def hooked():
        executions.append(1)
        if len(executions) == 1:
            raise CustomError("no")
        return 1

    hooked()

    assert calls == ["completion"]


@pytest.mark.behaviour("FLOW-HOOK-4")
def test_sync_and_async_hooks_mix_in_any_order(calls: Calls):
    hooks = [calls.async_hook("a"), calls.hook("b"), calls.async_hook("c"), calls.hook("d")]

    @flow(on_completion=hooks)
    def hooked():
        return 1

    hooked()

    assert calls == ["a", "b", "c", "d"]


@pytest.mark.behaviour("FLOW-HOOK-4")
@pytest.mark.anyio
async def test_sync_and_async_hooks_mix_on_an_async_flow(calls: Calls):
    @flow(on_completion=[calls.hook("a"), calls.async_hook("b")])
    async def hooked():
        return 1

    await hooked()

    assert calls == ["a", "b"]


@pytest.mark.behaviour("FLOW-HOOK-5")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_exception_in_a_hook_is_logged_and_changes_nothing(calls: Calls, log: LogRecords, is_async: bool):
    def raises(flow, flow_run, state):
        raise CustomError("the hook broke")

    async def raises_async(flow, flow_run, state):
        raise CustomError("the hook broke")

    @flow(on_completion=[raises_async if is_async else raises, calls.hook("later")])
    def hooked():
        return 1

    state = hooked(return_state=True)

    assert state.is_completed()
    assert stored_flow_state(state).is_completed()
    assert calls == ["later"]
    assert "the hook broke" in log.text
    assert "Traceback" in log.text


@pytest.mark.behaviour("FLOW-HOOK-6")
def test_cancellation_hooks_run_for_a_cancelling_state_only(calls: Calls):
    for make, expected in ((Completed, []), (Failed, []), (Cancelling, ["cancellation"])):

        @flow(on_cancellation=[calls.hook("cancellation")])
        def hooked():
            return make()  # noqa: B023 called in this iteration only

        hooked(return_state=True)
        assert calls == expected


@pytest.mark.behaviour("FLOW-HOOK-7")
def test_crash_hooks_run_for_a_crashed_state_only(calls: Calls):
    for make, expected in ((Completed, []), (Failed, []), (Crashed, ["crashed"])):

        @flow(on_crashed=[calls.hook("crashed")])
        def hooked():
            return make()  # noqa: B023 called in this iteration only

        hooked(return_state=True)
        assert calls == expected


@pytest.mark.behaviour("FLOW-HOOK-8")
def test_a_termination_signal_runs_crash_hooks_and_no_cancellation_hooks(calls: Calls):
    received = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())

    @flow(on_crashed=[calls.hook("crashed")], on_cancellation=[calls.hook("cancellation")])
    def hooked():
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(PATIENCE)

    try:
        with pytest.raises(TerminationSignal):
            hooked()
    finally:
        signal.signal(signal.SIGTERM, before)

    assert calls == ["crashed"]


@pytest.mark.behaviour("FLOW-HOOK-9")
def test_hooks_of_a_subflow_run_before_those_of_its_parent(calls: Calls):
    @flow(on_failure=[calls.hook("child")])
    def child():
        raise CustomError("no")

    @flow(on_failure=[calls.hook("parent")])
    def parent():
        child(return_state=True)

    assert parent(return_state=True).is_failed()
    assert calls == ["child", "parent"]


@pytest.mark.behaviour("FLOW-HOOK-10")
def test_start_and_end_of_a_hook_are_logged_with_its_name_and_the_states(calls: Calls, log: LogRecords):
    @flow(on_completion=[calls.hook("my_special_hook")])
    def hooked():
        return 1

    hooked()
    lines = [message for message in log.messages() if "my_special_hook" in message]

    assert len(lines) >= 2
    assert any("Completed" in line for line in lines)


@pytest.mark.behaviour("FLOW-HOOK-10")
def test_a_hook_without_a_name_works(calls: Calls, log: LogRecords):
    @flow(on_completion=[partial(calls.hook("inner")), calls.hook("later")])
    def hooked():
        return 1

    hooked()

    assert calls == ["inner", "later"]
    assert log.messages(logging.ERROR) == []
