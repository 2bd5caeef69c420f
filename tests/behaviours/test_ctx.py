"""CTX: the context of runs."""

import threading
from typing import Any

import pytest

from core_engine import flow, tags, task
from core_engine.context import FlowRunContext, ObjectRegistry, TagsContext, TaskRunContext, get_run_context
from core_engine.exceptions import MissingContextError, ReservedArgumentError
from core_engine.settings import SettingsContext, get_current_settings
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import as_id, setting


@pytest.mark.behaviour("CTX-1")
def test_outside_a_run_there_is_no_run_context():
    with pytest.raises(MissingContextError) as caught:
        get_run_context()
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.behaviour("CTX-1")
def test_the_innermost_run_context_is_found(runner: BaseTaskRunner):
    @task
    def inside():
        return type(get_run_context())

    @flow(task_runner=runner)
    def parent():
        before = type(get_run_context())
        called, submitted = inside(), inside.submit().result()
        return before, called, submitted, type(get_run_context())

    assert parent() == (FlowRunContext, TaskRunContext, TaskRunContext, FlowRunContext)
    with pytest.raises(MissingContextError):
        get_run_context()


@pytest.mark.behaviour("CTX-1")
@pytest.mark.anyio
async def test_the_innermost_run_context_is_found_in_async_code():
    @task
    async def inside():
        return type(get_run_context())

    @flow
    async def parent():
        return await inside(), type(get_run_context())

    assert await parent() == (TaskRunContext, FlowRunContext)


@pytest.mark.behaviour("CTX-2")
def test_the_flow_run_context_has_its_fields():
    found: dict[str, Any] = {}

    @flow(log_prints=True)
    def called(x):
        context = get_run_context()
        names = [
            "flow",
            "flow_run",
            "task_runner",
            "client",
            "parameters",
            "result_factory",
            "start_time",
            "log_prints",
        ]
        found.update({name: getattr(context, name) for name in names})
        assert isinstance(context.task_runner, BaseTaskRunner)
        return as_id(context.flow_run.id)

    state = called(5, return_state=True)

    assert found["flow"].fn is called.fn
    assert state.result() == state.state_details.flow_run_id
    assert found["flow_run"].state_name == "Running"
    assert found["parameters"] == {"x": 5}
    assert found["client"] is not None
    assert found["result_factory"] is not None
    assert found["start_time"].tzinfo is not None
    assert found["log_prints"] is True


@pytest.mark.behaviour("CTX-2")
def test_the_task_run_context_has_its_fields(runner: BaseTaskRunner):
    found: dict[str, Any] = {}

    @task(log_prints=True)
    def called(x, y=2):
        context = get_run_context()
        names = ["task", "task_run", "client", "parameters", "result_factory", "start_time", "log_prints"]
        found.update({name: getattr(context, name) for name in names})

    @flow(task_runner=runner)
    def parent():
        return called.submit(5, return_state=True)

    state = parent(return_state=True).result()

    assert found["task"].fn is called.fn
    assert found["task_run"].id == state.state_details.task_run_id
    assert found["task_run"].state_name == "Running"
    assert found["parameters"] == {"x": 5, "y": 2}
    assert found["client"] is not None
    assert found["result_factory"] is not None
    assert found["start_time"].tzinfo is not None
    assert found["log_prints"] is True


@pytest.mark.behaviour("CTX-3")
def test_contexts_cannot_be_changed():
    @flow
    def called():
        context = get_run_context()
        with pytest.raises((AttributeError, TypeError, ValueError)):
            context.parameters = {"other": 1}
        with pytest.raises((AttributeError, TypeError, ValueError)):
            context.unknown_field = 1
        return context.parameters

    assert called() == {}


@pytest.mark.behaviour("CTX-3")
def test_contexts_refuse_unknown_fields():
    with pytest.raises((TypeError, ValueError), match="unknown_field"):
        TagsContext(unknown_field=1)


@pytest.mark.behaviour("CTX-4")
def test_get_is_none_outside_and_the_innermost_inside():
    assert FlowRunContext.get() is None
    assert TaskRunContext.get() is None

    @flow
    def child():
        return FlowRunContext.get().flow_run.id

    @flow
    def parent():
        before = FlowRunContext.get().flow_run.id
        childs = child()
        return before, childs, FlowRunContext.get().flow_run.id, TaskRunContext.get()

    before, childs, after, task_context = parent()

    assert before == after
    assert childs != before
    assert task_context is None
    assert FlowRunContext.get() is None


@pytest.mark.behaviour("CTX-5")
def test_a_context_is_entered_once_and_left_as_often_as_entered():
    context = TagsContext(current_tags={"a"})
    with context:
        assert TagsContext.get().current_tags == {"a"}
        with pytest.raises(RuntimeError, match="already|twice"):
            context.__enter__()
    with pytest.raises(RuntimeError, match=r"(?i)asymmetric|enter"):
        context.__exit__(None, None, None)
    with context.copy():
        assert TagsContext.get().current_tags == {"a"}
    assert TagsContext.get().current_tags == set()


@pytest.mark.behaviour("CTX-6")
def test_the_tags_context_is_never_none():
    assert TagsContext.get().current_tags == set()
    with tags("a"):
        assert TagsContext.get().current_tags == {"a"}


@pytest.mark.behaviour("CTX-6")
def test_the_settings_context_falls_back_to_the_process_and_is_seen_in_new_threads():
    assert SettingsContext.get() is not None
    seen = []

    def look() -> None:
        seen.append((SettingsContext.get() is not None, get_current_settings().flow_default_retries))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    assert seen == [(True, 0)]


@pytest.mark.behaviour("CTX-13")
def test_flows_and_tasks_run_with_the_settings_active_at_the_call(runner: BaseTaskRunner):
    def current() -> int:
        return get_current_settings().flow_default_retries

    @task
    def inside():
        return current()

    @task
    def inside_with(x):
        return current()

    @task
    async def inside_async():
        return current()

    @flow
    def child():
        return current()

    @flow(task_runner=runner)
    def parent():
        mapped = [future.result() for future in inside_with.map([1, 2])]
        return [current(), inside(), inside.submit().result(), inside_async.submit().result(), child(), *mapped]

    with setting(FLOW_DEFAULT_RETRIES=7):
        assert set(parent()) == {7}
    assert set(parent()) == {0}


@pytest.mark.behaviour("CTX-13")
@pytest.mark.anyio
async def test_async_flows_run_with_the_settings_active_at_the_call():
    @task
    async def inside():
        return get_current_settings().flow_default_retries

    @flow
    async def parent():
        return get_current_settings().flow_default_retries, await inside()

    with setting(FLOW_DEFAULT_RETRIES=7):
        assert await parent() == (7, 7)
    assert await parent() == (0, 0)


@pytest.mark.behaviour("CTX-14")
def test_a_registry_records_the_flows_and_tasks_made_while_it_is_active():
    @task
    def before():
        pass

    with ObjectRegistry() as registry:

        @task
        def one():
            pass

        @flow
        def two():
            pass

    @flow
    def after():
        pass

    assert registry.tasks == [one]
    assert registry.flows == [two]
    assert ObjectRegistry.get() is None


@pytest.mark.behaviour("CTX-14")
def test_the_innermost_registry_records():
    with ObjectRegistry() as outer, ObjectRegistry() as inner:

        @flow
        def made():
            pass

    assert (outer.flows, inner.flows) == ([], [made])


@pytest.mark.behaviour("CTX-14")
def test_a_registry_that_captures_failures_keeps_errors_of_making_flows_and_tasks():
    def function(wait_for):
        pass

    with ObjectRegistry(capture_failures=True) as registry:
        flow(function)
        task(function)
        task(retry_jitter_factor=-1)(function)

    errors = [(type(error), fn) for error, fn in registry.failures]
    assert errors[:2] == [(ReservedArgumentError, function), (ReservedArgumentError, function)]
    assert len(errors) == 3
    with pytest.raises(ReservedArgumentError), ObjectRegistry():
        flow(function)


@pytest.mark.behaviour("CTX-14")
@pytest.mark.anyio
async def test_a_registry_that_blocks_execution_makes_calls_of_flows_do_nothing():
    called = []

    @flow
    def runs():
        called.append(1)
        return 1

    with ObjectRegistry(block_code_execution=True):
        assert runs() is None
    assert called == []
    assert runs() == 1
