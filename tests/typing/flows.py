"""What type checkers must make of flows. Read by them, never run.

An ignored error is one that must be reported: a needless one is an error itself.
"""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from core_engine import Flow, State, flow, task


@task
def one() -> int:
    return 1


@flow
def pipeline(path: str, limit: int = 10) -> dict[str, int]:
    return {path: limit}


@flow(name="crawl", task_runner="sequential", retries=1, retry_delay_seconds=0.5)
async def crawl(url: str) -> list[str]:
    return [url]


@flow
def untyped(x: int) -> Any:
    return x


class Report:
    @flow
    def write(self, title: str) -> str:
        return title


def needs_a_flow_of_a_table(given: Flow[[str, int], dict[str, int]]) -> None: ...


def a_decorated_function_is_a_flow_of_its_parameters_and_result() -> None:
    assert_type(pipeline.fn("a", limit=2), dict[str, int])
    pipeline.fn(1)  # type: ignore[arg-type]
    needs_a_flow_of_a_table(pipeline)
    needs_a_flow_of_a_table(crawl)  # type: ignore[arg-type]


def options_keep_the_type() -> None:
    assert_type(pipeline.with_options(name="other", retries=1)("a"), dict[str, int])


def a_call_gives_the_result() -> None:
    assert_type(pipeline("a"), dict[str, int])
    assert_type(pipeline("a", limit=2), dict[str, int])
    assert_type(pipeline("a", limit=one.submit()), dict[str, int])
    assert_type(pipeline("a", wait_for=[one.submit()]), dict[str, int])


def a_call_gives_the_state_if_asked_to() -> None:
    assert_type(pipeline("a", return_state=True), State)
    assert_type(pipeline("a", return_state=True, wait_for=[one.submit()]), State)
    assert_type(pipeline._run("a"), State)


async def an_async_flow_is_awaited() -> None:
    assert_type(await crawl("a"), list[str])
    assert_type(await crawl("a", return_state=True), State)
    assert_type(await crawl("a", wait_for=[one.submit()]), list[str])
    assert_type(await crawl._run("a"), State)
    assert_type(pipeline("a"), dict[str, int])
    await pipeline("a")  # type: ignore[misc]


def an_async_flow_can_be_what_a_loop_runs() -> None:
    assert_type(asyncio.run(crawl("a")), list[str])
    assert_type(asyncio.run(crawl("a", return_state=True)), State)


def a_flow_that_is_a_method_is_bound() -> None:
    assert_type(Report().write("a"), str)
    assert_type(Report().write("a", return_state=True), State)
    assert_type(Report.write(Report(), "a"), str)


def a_flow_of_unknown_type_may_be_sync_or_async(some: Flow[..., Any]) -> None:
    assert_type(untyped(1), Any)
    assert_type(untyped(1, return_state=True), Any)
    assert_type(some(1, return_state=True), Any)
