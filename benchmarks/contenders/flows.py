"""Flows of the engine that are measured, and what the store must hold after each of them."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from benchmarks.contenders import cluster_flows
from benchmarks.contenders.cases import Case, Expected, completed, times_ns
from core_engine import Flow, flow, get_run_logger, task

SLOTS_TAG = "benchmark-slots"
SLOTS = 8
LINES_EACH = 100

# Numbers whose task failed once already; emptied before each round.
_failed_once: set[int] = set()


def forget() -> None:
    """Empties what tasks and flows keep between rounds."""
    times_ns.clear()
    _failed_once.clear()


@task
def noop(number: int) -> None:
    """Does nothing."""


@task
async def async_noop(number: int) -> None:
    """Does nothing, as a coroutine."""


@task
def same(number: int) -> int:
    return number


@task
def successor(number: int) -> int:
    return number + 1


@task
def length(numbers: list[int]) -> int:
    return len(numbers)


@task(persist_result=True)
def persisted(number: int) -> dict[str, int]:
    return {"number": number}


@task(persist_result=True, cache_key_fn=lambda context, parameters: f"benchmark-{parameters['number']}")
def cached(number: int) -> int:
    return number


@task(retries=1)
def retried(number: int) -> None:
    if number not in _failed_once:
        _failed_once.add(number)
        raise ValueError(f"{number} fails the first time")


@task
def failing(number: int) -> None:
    raise ValueError(f"{number} fails")


@task(log_prints=True)
def printing(number: int) -> None:
    print("number", number)


def hook(task: Any, task_run: Any, state: Any) -> None:
    """Does nothing when a run has completed."""


@task(on_completion=[hook])
def hooked(number: int) -> None:
    """Does nothing, and has a hook."""


@task(tags=[SLOTS_TAG])
def slotted(number: int) -> None:
    """Does nothing, when it gets a slot."""


@task
def logging_lines(lines: int) -> None:
    logger = get_run_logger()
    for number in range(lines):
        logger.info("Line %d of %d", number, lines)


@flow
def mapped(size: int) -> str:
    noop.map(range(size))
    return "done"


@flow
async def mapped_async(size: int) -> str:
    await async_noop.map(range(size))
    return "done"


@flow
def mapped_and_taken(size: int) -> int:
    return sum(future.result() for future in same.map(range(size)))


@flow
def submitted(size: int) -> int:
    futures = [same.submit(number) for number in range(size)]
    return sum(future.result() for future in futures)


@flow
def called(size: int) -> int:
    return sum(same(number) for number in range(size))


@flow
def chained(size: int) -> int:
    future = successor.submit(0)
    for _ in range(size - 1):
        future = successor.submit(future)
    return future.result()


@flow
def fanned_in(size: int) -> int:
    return length.submit(same.map(range(size))).result()


@flow
def streamed(size: int) -> int:
    return sum(future.result() for future in same.stream(range(size)))


@flow
def inner(number: int) -> int:
    return same(number)


@flow
def nested(size: int) -> int:
    return sum(inner(number) for number in range(size))


@flow
def one_by_one(size: int) -> str:
    for number in range(size):
        start = perf_counter_ns()
        noop.submit(number).result()
        times_ns.append(perf_counter_ns() - start)
    return "done"


@flow
async def one_by_one_async(size: int) -> str:
    for number in range(size):
        start = perf_counter_ns()
        future = await async_noop.submit(number)
        await future.result()
        times_ns.append(perf_counter_ns() - start)
    return "done"


@flow
def persisting(size: int) -> str:
    persisted.map(range(size))
    return "done"


@flow
def using_cache(size: int) -> str:
    cached.map(range(size))
    return "done"


@flow
def retrying(size: int) -> str:
    retried.map(range(size))
    return "done"


@flow
def tolerating(size: int) -> str:
    failing.map(range(size))
    return "done"


@flow
def capturing(size: int) -> str:
    printing.map(range(size))
    return "done"


@flow
def hooking(size: int) -> str:
    hooked.map(range(size))
    return "done"


@flow
def limited(size: int) -> str:
    slotted.map(range(size))
    return "done"


@flow
def logged(size: int) -> str:
    logging_lines(size)
    return "done"


@flow
def logged_by_many(size: int) -> str:
    logging_lines.map([LINES_EACH] * (size // LINES_EACH))
    return "done"


def _fill_cache(flow: Flow[..., Any], size: int) -> None:
    flow(size)


def _limit(flow: Flow[..., Any], size: int) -> None:
    from core_engine.backend import open_backend

    open_backend().store.set_concurrency_limit(SLOTS_TAG, SLOTS)


def _sum(size: int) -> int:
    return size * (size - 1) // 2


CASES: dict[str, Case] = {
    "mapped": Case(mapped, completed),
    "mapped_async": Case(mapped_async, completed),
    "mapped_and_taken": Case(mapped_and_taken, lambda size: completed(size, _sum(size))),
    # A run that is no child of a map says so at its end, in a line of its own.
    "submitted": Case(submitted, lambda size: completed(size, _sum(size), lines=size)),
    "called": Case(called, lambda size: completed(size, _sum(size), lines=size)),
    "chained": Case(chained, lambda size: completed(size, size, lines=size)),
    "fanned_in": Case(fanned_in, lambda size: completed(size + 1, size, lines=1)),
    "streamed": Case(streamed, lambda size: completed(size, _sum(size))),
    # The subflows themselves: their tasks belong to them.
    "nested": Case(nested, lambda size: completed(size, _sum(size))),
    "one_by_one": Case(one_by_one, lambda size: completed(size, lines=size)),
    "one_by_one_async": Case(one_by_one_async, lambda size: completed(size, lines=size)),
    "persisting": Case(persisting, lambda size: completed(size, results=size)),
    "using_cache": Case(
        using_cache, lambda size: Expected({"Cached": size}, 2 * size, "done", results=size), _fill_cache
    ),
    # Pending, Running, AwaitingRetry, Retrying, Completed; a line with the traceback, and one about the retry.
    "retrying": Case(retrying, lambda size: Expected({"Completed": size}, 5 * size, "done", lines=2 * size)),
    # A line with the traceback, and one that says how the run ended.
    "tolerating": Case(tolerating, lambda size: Expected({"Failed": size}, 3 * size, "done", lines=2 * size)),
    "capturing": Case(capturing, lambda size: completed(size, lines=size)),
    # A line before and after each hook.
    "hooking": Case(hooking, lambda size: completed(size, lines=2 * size)),
    "limited": Case(limited, completed, _limit),
    "logged": Case(logged, lambda size: completed(1, lines=size + 1)),
    "logged_by_many": Case(logged_by_many, lambda size: completed(size // LINES_EACH, lines=size)),
    **cluster_flows.CASES,
}
