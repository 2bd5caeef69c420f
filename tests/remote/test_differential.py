"""Random flows end alike on a cluster and in the flow's own thread: values, states, and which upstreams runs have."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core_engine import State, allow_failure, flow, get_client, quote, task, unmapped
from core_engine.concurrency.waiting import step
from core_engine.remote.values import LARGEST_INLINE
from core_engine.runtime import flow_run
from core_engine.task_runners import BaseTaskRunner
from runners.sequential import SequentialTaskRunner

LARGE = LARGEST_INLINE + 1_000

# What tasks are made of -----------------------------------------------------------------------------------------------


def described(value: Any) -> Any:
    """What can be compared of a value, small however large it is."""
    if isinstance(value, bytes):
        return len(value), value[:4]
    if isinstance(value, BaseException):
        return type(value).__name__, str(value)
    if isinstance(value, State):
        return value.type.value, value.name, value_of(value)
    if isinstance(value, dict):
        return {key: described(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    return value


def value_of(state: State) -> Any:
    return described(state.result(raise_on_failure=False)) if state.is_final() else None


def large(value: Any) -> bytes:
    return repr(value).encode().ljust(4)[:4] * (LARGE // 4)


RETURNS: dict[str, Callable[[Any], Any]] = {
    "same": lambda seen: seen,
    "large": lambda seen: large(seen),
    "several": lambda seen: [large(seen), seen, None],
    "none": lambda seen: None,
    "exception": lambda seen: ValueError(str(seen)),
    "completed": lambda seen: State("COMPLETED", name="Done", data=seen),
    "failed": lambda seen: State("FAILED", name="Refused", message="refused"),
    "states": lambda seen: [State("COMPLETED", data=seen), State("COMPLETED", data=large(seen))],
    "generator": lambda seen: (one for one in (seen, 1)),
}


@dataclass
class Kind:
    """How a task is: what it returns, whether it fails before, and how its function takes its parameters."""

    returns: str = "same"
    fails: bool = False
    retries: int = 0
    signature: str = "plain"
    options: dict[str, Any] = field(default_factory=dict)

    def made(self, number: int) -> Any:
        """Returns a task like all others of its name, but for what its function has closed over."""
        kind = self

        def outcome(seen: Any) -> Any:
            if kind.fails:
                raise RuntimeError(f"{number} fails for {seen!r}"[:60])
            return RETURNS[kind.returns]((number, seen))

        def plain(first: Any, second: Any = "default") -> Any:
            return outcome(described([first, second]))

        async def asynchronous(first: Any, second: Any = "default") -> Any:
            return outcome(described([first, second]))

        def starred(*values: Any, **named: Any) -> Any:
            return outcome(described([values, named]))

        function: Any = {"plain": plain, "asynchronous": asynchronous, "starred": starred}[self.signature]
        return task(function, name="task", retries=self.retries, **self.options)


kinds = st.builds(
    Kind,
    st.sampled_from(sorted(RETURNS)),
    st.sampled_from([False, False, False, True]),
    st.integers(0, 1),
    st.sampled_from(["plain", "plain", "asynchronous", "starred"]),
    st.sampled_from(
        [
            {},
            {},
            {"persist_result": True},
            {"persist_result": False},
            {"cache_result_in_memory": False, "persist_result": True},
            {"cache_key_fn": lambda context, parameters: None, "cache_expiration": timedelta(hours=1)},
        ]
    ),
)


# What flows are made of -----------------------------------------------------------------------------------------------


@dataclass
class Call:
    """A step of a flow: which task is called, how, and with what."""

    kind: Kind
    is_map: bool
    first: Any
    second: Any
    waits_for: int | None


def arguments(depth: int = 2) -> st.SearchStrategy[Any]:
    """Descriptions of arguments: futures and states by the number of the run, the earliest last."""
    leaves = st.one_of(
        st.integers(0, 9),
        st.none(),
        st.just(("large",)),
        st.tuples(st.sampled_from(["future", "state", "allowed", "value"]), st.integers(0, 6)),
    )
    if not depth:
        return leaves
    inner = arguments(depth - 1)
    return st.one_of(
        leaves,
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        st.tuples(st.just("quoted"), inner),
    )


calls = st.builds(
    Call,
    kinds,
    st.booleans(),
    arguments(),
    arguments(),
    st.one_of(st.none(), st.none(), st.integers(0, 6)),
)


class Made:
    """What a flow has called so far, and what its next arguments are made of."""

    def __init__(self) -> None:
        self.futures: list[Any] = []

    def argument(self, description: Any) -> Any:
        match description:
            case ("large",):
                return b"argument" * (LARGE // 8)
            case ("quoted", inner):
                return quote([self.argument(inner)] if self.holds_no_runs(inner) else [0])
            case (str() as kind, int() as number):
                return self.of_run(kind, number)
            case list():
                return [self.argument(one) for one in description]
            case dict():
                return {key: self.argument(one) for key, one in description.items()}
        return description

    def of_run(self, kind: str, number: int) -> Any:
        if not self.futures:
            return kind
        future = self.futures[-1 - number % len(self.futures)]
        match kind:
            case "future":
                return future
            case "allowed":
                return allow_failure(future)
            case "state":
                return future.wait()
        return value_of(future.wait())

    def holds_no_runs(self, description: Any) -> bool:
        if isinstance(description, (list, dict)):
            values = description.values() if isinstance(description, dict) else description
            return all(map(self.holds_no_runs, values))
        return not isinstance(description, tuple) or description == ("large",)

    def call(self, number: int, call: Call) -> None:
        one = call.kind.made(number)
        wait_for = None if call.waits_for is None or not self.futures else [self.of_run("future", call.waits_for)]
        first, second = self.argument(call.first), self.argument(call.second)
        is_starred = call.kind.signature == "starred"
        if call.is_map:
            own = [first, number, [first]]
            if is_starred:
                made = one.map(own, [1], [], second=unmapped(second), third=own, wait_for=wait_for)
            else:
                made = one.map(own, unmapped(second), wait_for=wait_for)
            self.futures.extend(made)
        elif is_starred:
            self.futures.append(one.submit(first, number, second=second, wait_for=wait_for))
        else:
            self.futures.append(one.submit(first, second, wait_for=wait_for))


def outcomes(steps: list[Call], runner: BaseTaskRunner, is_retried: bool = False) -> list[Any]:
    """Runs a flow of these steps, again if `is_retried`; returns what became of each of its task runs."""

    @flow(task_runner=runner, name="random", retries=int(is_retried))
    def random() -> Any:
        made = Made()
        for number, call in enumerate(steps):
            made.call(number, call)
        found = []
        states = [future.wait() for future in made.futures]
        if is_retried and flow_run.run_count == 1:
            raise ValueError("once more")
        for future, state in zip(made.futures, states, strict=True):
            stored = step(get_client().read_task_run(future.task_run_id))
            # Of several upstreams that did not complete any may be named.
            message = None if state.name == "NotReady" else state.message
            found.append((future.name, state.type.value, state.name, message, value_of(state)))
            inputs = {name: len(runs) for name, runs in stored.task_inputs.items()}
            found.append((stored.state.name, stored.run_count, stored.flow_run_run_count, stored.execution, inputs))
        return found

    return random()  # type: ignore[no-any-return]


def without_ids(found: Any) -> str:
    import re

    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "id", repr(found))


@pytest.mark.behaviour("I3", "D14")
@settings(
    max_examples=25,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(calls, min_size=1, max_size=6), st.booleans())
def test_random_flows_end_alike_on_a_cluster_and_in_the_flows_thread(
    task_runner: BaseTaskRunner, steps: list[Call], is_retried: bool
) -> None:
    here, there = outcomes(steps, SequentialTaskRunner(), is_retried), outcomes(steps, task_runner, is_retried)

    assert without_ids(there) == without_ids(here)
