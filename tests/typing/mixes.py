"""What type checkers must make of sync and async flows and tasks in each other. Read by them, never run."""

from __future__ import annotations

from typing import assert_type

from core_engine import MapOptions, State, TaskFuture, flow, task
from core_engine.futures import AsyncTaskFuture


@task(map_options=MapOptions(max_failures=1))
def double(x: int) -> int:
    return 2 * x


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@flow
def inner(count: int) -> list[int]:
    return [future.result() for future in double.map(range(count))]


@flow
async def fetch_all(urls: list[str]) -> list[bytes]:
    return [await future.result() for future in await fetch.map(urls)]


@flow
async def sync_tasks_in_an_async_flow(count: int) -> int:
    assert_type(double(1), int)
    assert_type(double.submit(1), TaskFuture[int])
    assert_type(double.map(range(count)), list[TaskFuture[int]])
    assert_type(double.map(range(count), return_state=True), list[State])
    assert_type(inner(count), list[int])
    return sum(future.result() for future in double.map(range(count)))


@flow
async def async_tasks_in_an_async_flow(urls: list[str]) -> bytes:
    futures = await fetch.map(urls)
    assert_type(futures, list[AsyncTaskFuture[bytes]])
    assert_type([await future.result() for future in futures], list[bytes])
    assert_type(await fetch_all(urls), list[bytes])
    assert_type(await fetch_all(urls, return_state=True), State)
    return await fetch(urls[0])


async def flows_return_what_their_functions_do() -> None:
    assert_type(await sync_tasks_in_an_async_flow(3), int)
    assert_type(await async_tasks_in_an_async_flow(["a"]), bytes)
    assert_type(inner(3, return_state=True), State)
