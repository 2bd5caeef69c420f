"""TAGS: tags of runs."""

from typing import Any

import pytest

from core_engine import flow, tags, task
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import read_flow_run, read_flow_runs, read_task_run, read_task_runs


@task(tags={"own"})
def tagged(x: Any = 1) -> Any:
    return x


@task
def plain(x: Any = 1) -> Any:
    return x


@pytest.mark.behaviour("TAGS-1")
def test_tags_are_added_to_runs_created_inside_and_the_full_set_is_yielded():
    @flow
    def called():
        with tags("c") as inner:
            assert set(inner) == {"a", "b", "c"}
            return plain(return_state=True)

    with tags("a", "b") as current:
        assert set(current) == {"a", "b"}
        state = called(return_state=True)

    assert read_flow_run(state).tags == {"a", "b"}
    assert read_task_run(state.result()).tags == {"a", "b", "c"}


@pytest.mark.behaviour("TAGS-2")
def test_nested_blocks_add_up_and_leaving_restores():
    @flow
    def called():
        return 1

    with tags("a"):
        with tags("b") as both:
            assert set(both) == {"a", "b"}
            inside = called(return_state=True)
        between = called(return_state=True)
    outside = called(return_state=True)

    assert [read_flow_run(state).tags for state in (inside, between, outside)] == [{"a", "b"}, {"a"}, set()]


@pytest.mark.behaviour("TAGS-2")
def test_leaving_by_an_exception_restores():
    with pytest.raises(ZeroDivisionError), tags("a"):
        raise ZeroDivisionError

    with tags("b") as current:
        assert set(current) == {"b"}


@pytest.mark.behaviour("TAGS-3")
def test_a_task_run_has_the_tasks_own_tags_and_the_current_ones():
    @flow
    def child():
        return tagged(return_state=True)

    @flow
    def parent():
        with tags("inner"):
            return [tagged(return_state=True), child(return_state=True).result()]

    with tags("outer"):
        state = parent(return_state=True)

    assert [read_task_run(one).tags for one in state.result()] == [{"own", "inner", "outer"}] * 2
    assert read_flow_runs(flow_name="child")[0].tags == {"inner", "outer"}
    (stands_for_child,) = [run for run in read_task_runs(state) if run.is_subflow]
    assert stands_for_child.tags == {"inner", "outer"}


@pytest.mark.behaviour("TAGS-4")
def test_tags_apply_alike_to_call_submit_map_and_return_state(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    def parent():
        with tags("a"):
            state, future, futures = tagged(return_state=True), tagged.submit(), tagged.map([1, 2])
            tagged()
        outside = tagged.submit()
        return [state, future, *futures, outside]

    *inside, outside = parent(return_state=True).result()

    assert [read_task_run(state).tags for state in inside] == [{"own", "a"}] * 4
    assert read_task_run(outside).tags == {"own"}


@pytest.mark.behaviour("TAGS-4")
def test_tags_are_those_at_submission_even_when_the_task_starts_later():
    import threading

    from tests.behaviours.helpers import wait_until_set

    release = threading.Event()

    @task
    def slow():
        wait_until_set(release)

    @flow
    def parent():
        upstream = slow.submit()
        with tags("at submission"):
            later = plain.submit(wait_for=[upstream])
        release.set()
        return [upstream, later]

    upstream, later = parent(return_state=True).result()

    assert read_task_run(upstream).tags == set()
    assert read_task_run(later).tags == {"at submission"}
