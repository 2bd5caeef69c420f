import asyncio
import uuid
from pathlib import Path

import pytest

from core_engine import flow, task
from core_engine.backend import open_backend
from core_engine.exceptions import ObjectNotFound
from core_engine.page import render_run_page, write_run_page
from core_engine.page.reading import read_run_page, read_task_summaries
from core_engine.states import State


@task
def only_even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


@task(cache_key_fn=lambda context, parameters: "always")
def cached() -> int:
    return 1


@task(task_run_name="named-{name}")
def named(name: str) -> str:
    return name


@task
async def pause_together(meeting: asyncio.Barrier) -> None:
    await meeting.wait()


def run_id(state: State) -> uuid.UUID:
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


def test_counts_are_the_stores_and_every_run_that_ran_is_on_a_lane() -> None:
    @flow
    def some() -> str:
        for future in [*only_even.map(range(50)), cached.submit(), named.submit("x")]:
            future.wait()
        cached.submit().wait()
        return "done"

    store = open_backend().store
    page = read_run_page(store, run_id(some(return_state=True)))
    counts = {task.name: {kind: count for kind, count in task.counts.items() if count} for task in page.tasks}
    assert counts == {
        "only_even": {"completed": 25, "failed": 25},
        "cached": {"completed": 1, "cached": 1},
        "named": {"completed": 1},
    }
    spans = [span for _, lane in page.timeline.lanes for span in lane]
    assert len(spans) == 53
    assert all(0 <= span.start <= span.end <= page.timeline.total_seconds for span in spans)
    assert [span.name for span in spans if page.timeline.tasks[span.task] == "named"] == ["named-x"]
    assert page.failures[0].message.endswith("1 is odd")
    assert len(page.failures) < 25
    assert page.facts.state_name == "Completed"
    assert [name for name, _, _ in page.facts.states] == ["Pending", "Running", "Completed"]


def test_tasks_of_subflows_are_shown_with_their_path() -> None:
    @flow
    def inner() -> None:
        only_even.submit(2).wait()

    @flow
    def outer() -> None:
        inner()
        inner()

    store = open_backend().store
    id = run_id(outer(return_state=True))
    assert {task.name: task.total for task in read_run_page(store, id).tasks} == {"inner": 2, "inner / only_even": 2}
    assert [task.name for task in read_task_summaries(store, id)] == ["inner"]
    assert "subflows" in render_run_page(store, id)


def test_runs_that_ran_at_once_in_one_thread_do_not_hide_each_other() -> None:
    @flow
    async def together() -> None:
        meeting = asyncio.Barrier(5)
        for future in [await pause_together.submit(meeting) for _ in range(5)]:
            await future.wait()

    html = render_run_page(open_backend().store, run_id(asyncio.run(together(return_state=True))))  # type: ignore[arg-type]
    assert "5 task runs" in html


def test_a_run_that_is_still_going_on_has_a_page_as_it_is_now() -> None:
    pages = []

    @flow
    def looks_at_itself() -> str:
        from core_engine.context import FlowRunContext

        only_even.submit(2).wait()
        context = FlowRunContext.get()
        assert context is not None
        pages.append(read_run_page(open_backend().store, context.flow_run.id))
        return "done"

    looks_at_itself()
    assert pages[0].facts.state_kind == "running"
    assert pages[0].total == 1


def test_a_flow_without_tasks_has_a_page(tmp_path: Path) -> None:
    @flow
    def nothing() -> None:
        pass

    path = write_run_page(tmp_path / "new" / "page.html", run_id(nothing(return_state=True)))
    assert path.is_absolute()
    assert "nothing" in path.read_text()


def test_a_run_that_is_not_there_is_told() -> None:
    with pytest.raises(ObjectNotFound, match="There is no flow run"):
        render_run_page(open_backend().store, uuid.uuid4())
