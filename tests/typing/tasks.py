"""What type checkers must make of tasks. Read by them, never run.

An ignored error is one that must be reported: a needless one is an error itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from core_engine import State, Task, TaskFuture, allow_failure, quote, task, unmapped
from core_engine.futures import AsyncTaskFuture


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task(name="repeat", retries=3, tags=["text"], retry_delay_seconds=[1, 2])
def repeat(text: str, *, times: int = 2) -> list[str]:
    return [text] * times


@task
async def fetch(url: str, *, attempts: int = 1) -> bytes:
    return url.encode() * attempts


@task
def say(*lines: str, **options: bool) -> None: ...


@task
def choose(key: str) -> str | None:
    return key or None


@task
def untyped(x: int) -> Any:
    return x


def needs_a_task_of_a_number(given: Task[..., int]) -> None: ...


def needs_a_task_of_anything(given: Task[[str], object]) -> None: ...


def needs_a_future_of_a_number(given: TaskFuture[int]) -> None: ...


def needs_a_future_of_anything(given: TaskFuture[object]) -> None: ...


def a_decorated_function_is_a_task_of_its_parameters_and_result() -> None:
    assert_type(add.fn(1, y=2), int)
    assert_type(repeat.fn("a", times=2), list[str])
    add.fn("1")  # type: ignore[arg-type]
    add.fn(1, z=2)  # type: ignore[call-arg]
    needs_a_task_of_a_number(add)
    needs_a_task_of_a_number(choose)  # type: ignore[arg-type]
    needs_a_task_of_anything(choose)
    needs_a_task_of_anything(add)  # type: ignore[arg-type]


def options_keep_the_type() -> None:
    assert_type(add.with_options(name="sum", retries=1)(1), int)
    assert_type(add.with_options(timeout_seconds=None).submit(1), TaskFuture[int])


def a_call_gives_the_result() -> None:
    assert_type(add(1), int)
    assert_type(add(1, y=2), int)
    assert_type(repeat("a", times=2), list[str])
    assert_type(choose("a"), str | None)
    assert_type(add(1, wait_for=[add.submit(1)]), int)
    assert_type(add(1, return_state=False), int)


def a_call_gives_the_state_if_asked_to() -> None:
    assert_type(add(1, return_state=True), State)
    assert_type(add(1, return_state=True, wait_for=[add.submit(1)]), State)
    assert_type(say("a", loud=True, return_state=True), State)
    assert_type(add._run(1), State)


def a_submit_gives_a_future_of_the_result() -> None:
    assert_type(add.submit(1), TaskFuture[int])
    assert_type(add.submit(1).result(), int)
    assert_type(add.submit(1).result(timeout=1.5), int)
    assert_type(add.submit(1).result(raise_on_failure=False), int | BaseException)
    assert_type(add.submit(1).wait(), State | None)
    assert_type(add.submit(1).get_state(), State)
    assert_type(add.submit(1, wait_for=[add.submit(1)]), TaskFuture[int])
    assert_type(add.submit(1, return_state=True), State)
    assert_type(say.submit("a", loud=True), TaskFuture[None])
    assert_type(say.submit("a", loud=True, return_state=True), State)
    needs_a_future_of_a_number(choose.submit("a"))  # type: ignore[arg-type]
    needs_a_future_of_anything(choose.submit("a"))


def futures_states_and_annotations_stand_for_values() -> None:
    assert_type(add(add.submit(1)), int)
    assert_type(add.submit(add.submit(1), y=add.submit(2)), TaskFuture[int])
    assert_type(add.submit(add(1, return_state=True)), TaskFuture[int])
    assert_type(add.submit(allow_failure(add.submit(1))), TaskFuture[int])
    assert_type(add.submit(quote(1)), TaskFuture[int])
    assert_type(add.submit(add.submit(1), return_state=True), State)


def a_map_gives_a_future_for_each_position() -> None:
    assert_type(add.map([1, 2, 3]), list[TaskFuture[int]])
    assert_type(add.map([1, 2], y=unmapped(3)), list[TaskFuture[int]])
    assert_type(add.map(add.map([1, 2])), list[TaskFuture[int]])
    assert_type(add.map([1, 2], wait_for=[add.submit(1)]), list[TaskFuture[int]])
    assert_type(add.map([1, 2], return_state=True), list[State])
    assert_type(sum(future.result() for future in add.map([1, 2])), int)


def a_stream_gives_finished_futures() -> None:
    assert_type(add.stream(range(3)), Iterator[TaskFuture[int]])
    assert_type(add.stream(range(3), wait_for=[add.submit(1)], y=1), Iterator[TaskFuture[int]])


async def an_async_task_is_awaited() -> None:
    assert_type(await fetch("a"), bytes)
    assert_type(await fetch("a", wait_for=[add.submit(1)]), bytes)
    assert_type(await fetch("a", return_state=True), State)
    assert_type(await fetch._run("a"), State)
    assert_type(await fetch.map(["a"], return_state=True), list[State])
    assert_type(await fetch.map(["a"], attempts=2), list[AsyncTaskFuture[bytes]])
    assert_type(await fetch.submit("a", return_state=True), State)
    assert_type(fetch.stream(["a"]), AsyncIterator[AsyncTaskFuture[bytes]])
    await add(1)  # type: ignore[misc]


async def the_future_of_an_async_task_is_awaited() -> None:
    future = await fetch.submit("a", attempts=3)
    assert_type(future, AsyncTaskFuture[bytes])
    assert_type(await future.result(), bytes)
    assert_type(await future.result(raise_on_failure=False), bytes | BaseException)
    assert_type(await future.wait(1.5), State | None)
    assert_type(await future.get_state(), State)
    assert_type(await fetch.submit(future), AsyncTaskFuture[bytes])
    needs_a_future_of_anything(future)


def a_coroutine_can_become_a_task_of_the_loop() -> None:
    submitted: Coroutine[Any, Any, AsyncTaskFuture[bytes]] = fetch.submit("a")
    state: Coroutine[Any, Any, State] = fetch("a", return_state=True)
    submitted.close()
    state.close()


def a_task_of_unknown_type_may_be_sync_or_async(some: Task[..., Any]) -> None:
    assert_type(untyped(1), Any)
    assert_type(untyped.submit(1), Any)
    assert_type(untyped.map([1]), Any)
    assert_type(some(1, return_state=True), Any)
    assert_type(some.submit(1), Any)
    assert_type(some.map([1]), Any)
