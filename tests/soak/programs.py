"""Random flows: what they are made of, a plain sequential evaluation of them, and the same as real flows.

A program is a flow: nodes that are tasks, maps or subflows, whose inputs are numbers and earlier nodes, at any depth of
collections. A node is known by its place, such as ``(2, 0, 1)``: node 1 of the flow at node 0 of the flow at node 2.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from core_engine import State, TaskFuture, allow_failure, flow, task
from core_engine.exceptions import UpstreamTaskError

Place = tuple[int, ...]


class Unlucky(Exception):
    """What tasks and flows of these programs fail with."""


# What programs are made of --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    value: int


@dataclass(frozen=True)
class Upstream:
    """An earlier node of the same flow, counted modulo their number; of a map the item counted modulo its size."""

    node: int
    item: int
    allowed_to_fail: bool


@dataclass(frozen=True)
class Many:
    """A collection of inputs: "list", "tuple" or "dict"."""

    kind: str
    parts: tuple[Any, ...]


Input = Number | Upstream | Many


@dataclass(frozen=True)
class TaskNode:
    asynchronous: bool
    submitted: bool
    fails: bool
    input: Input
    wait_for: tuple[Upstream, ...]


@dataclass(frozen=True)
class MapNode:
    asynchronous: bool
    fails: tuple[bool, ...]
    items: tuple[Input, ...]
    shared: Input


@dataclass(frozen=True)
class FlowNode:
    program: Program
    input: Input


Node = TaskNode | MapNode | FlowNode


@dataclass(frozen=True)
class Program:
    asynchronous: bool
    nodes: tuple[Node, ...]
    returns: str
    """"value": the sum of all that completed; "states": all nodes; "nothing"; "raises"."""


numbers = st.integers(0, 9).map(Number)
upstreams = st.builds(Upstream, st.integers(0, 9), st.integers(0, 9), st.booleans())
inputs = st.recursive(
    numbers | upstreams,
    lambda parts: st.builds(Many, st.sampled_from(["list", "tuple", "dict"]), st.lists(parts, max_size=3).map(tuple)),
    max_leaves=4,
)
# One in eight fails.
failures = st.integers(0, 7).map(lambda number: number == 7)
task_nodes = st.builds(
    TaskNode, st.booleans(), st.booleans(), failures, inputs, st.lists(upstreams, max_size=2).map(tuple)
)


@st.composite
def map_nodes(draw: Any) -> MapNode:
    items = draw(st.lists(inputs, min_size=1, max_size=4))
    return MapNode(draw(st.booleans()), tuple(draw(failures) for _ in items), tuple(items), draw(inputs))


@st.composite
def programs(draw: Any, depth: int = 2, most_nodes: int = 5) -> Program:
    """Programs with subflows `depth` levels down."""
    kinds: list[Any] = [task_nodes, map_nodes()]
    if depth:
        kinds.append(st.builds(FlowNode, programs(depth=depth - 1, most_nodes=3), inputs))
    nodes = draw(st.lists(st.one_of(kinds), min_size=1, max_size=most_nodes))
    return Program(
        draw(st.booleans()), tuple(nodes), draw(st.sampled_from(["value", "value", "states", "nothing", "raises"]))
    )


# What a run of a program comes to -------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What one task run or flow run comes to, and by which parameter it depends on which task runs."""

    kind: str
    value: int | None = None
    upstream: dict[str, set[Place]] = field(default_factory=dict)


def combine(label: int, parts: Any) -> int:
    """What every task computes: a number from all numbers in its input, at whatever depth."""
    return (label + 31 * sum(leaf * (index + 1) for index, leaf in enumerate(_leaves(parts)))) % 100_003


def _leaves(value: Any) -> Iterable[int]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield -1 if isinstance(value, BaseException) else value


def built(kind: str, parts: list[Any]) -> Any:
    if kind == "dict":
        return {f"key {index}": part for index, part in enumerate(parts)}
    return tuple(parts) if kind == "tuple" else parts


def label_of(place: Place) -> int:
    return sum(step * 7**level for level, step in enumerate(place, 1))


# Evaluated plainly ----------------------------------------------------------------------------------------------------


class NotReady(Exception):
    """An input cannot be had."""


class Evaluation:
    """What every run of a program must come to, found without the engine, one node after the other."""

    def __init__(self, program: Program) -> None:
        self.outcomes: dict[Place, Outcome] = {}
        self.of_flow = self._run(program, (), 0)

    def _run(self, program: Program, place: Place, given: int) -> Outcome:
        nodes: list[list[Place | None]] = []
        for index, node in enumerate(program.nodes):
            here = (*place, index)
            if isinstance(node, TaskNode):
                self.outcomes[here] = self._task(node, here, nodes)
                nodes.append([here])
            elif isinstance(node, MapNode):
                nodes.append(self._map(node, here, nodes))
            else:
                nodes.append([self._subflow(node, here, nodes)])
        mine = [one for items in nodes for one in items if one is not None]
        return self._returned(program, mine, given)

    def _returned(self, program: Program, mine: list[Place], given: int) -> Outcome:
        kinds = [self.outcomes[one].kind for one in mine]
        if program.returns == "raises":
            return Outcome("FAILED")
        if program.returns == "value":
            completed = [self.outcomes[one].value for one in mine if self.outcomes[one].value is not None]
            return Outcome("COMPLETED", combine(given, completed))
        return Outcome("COMPLETED" if set(kinds) <= {"COMPLETED"} else "FAILED")

    def _task(self, node: TaskNode, here: Place, nodes: list[list[Place | None]]) -> Outcome:
        waits = [self._place(one, nodes) for one in node.wait_for]
        upstream = {"parts": self._upstream(node.input, nodes)}
        if node.wait_for:
            upstream["wait_for"] = {one for one in waits if one is not None}
        ready = all(
            one is None or self._is_usable(one, wanted.allowed_to_fail)
            for one, wanted in zip(waits, node.wait_for, strict=True)
        )
        return self._outcome(here, ready, node.fails, [node.input], nodes, upstream)

    def _map(self, node: MapNode, here: Place, nodes: list[list[Place | None]]) -> list[Place | None]:
        shared = self._upstream(node.shared, nodes)
        items: list[Place | None] = []
        for index, item in enumerate(node.items):
            place = (*here, index)
            upstream = {"parts": self._upstream(item, nodes), "shared": shared}
            self.outcomes[place] = self._outcome(place, True, node.fails[index], [item, node.shared], nodes, upstream)
            items.append(place)
        return items

    def _outcome(
        self,
        place: Place,
        ready: bool,
        fails: bool,
        wanted: list[Input],
        nodes: list[list[Place | None]],
        upstream: dict[str, set[Place]],
    ) -> Outcome:
        try:
            values = [self._value(one, nodes) for one in wanted]
        except NotReady:
            ready = False
        if not ready:
            return Outcome("PENDING", None, upstream)
        if fails:
            return Outcome("FAILED", None, upstream)
        return Outcome("COMPLETED", combine(label_of(place), values), upstream)

    def _subflow(self, node: FlowNode, here: Place, nodes: list[list[Place | None]]) -> Place | None:
        upstream = {"parts": self._upstream(node.input, nodes)}
        try:
            value = self._value(node.input, nodes)
        except NotReady:
            return None  # it raises to the flow, and no run is made
        outcome = self._run(node.program, here, combine(0, value))
        self.outcomes[here] = Outcome(outcome.kind, outcome.value, upstream)
        return here

    def _place(self, wanted: Upstream, nodes: list[list[Place | None]]) -> Place | None:
        if not nodes:
            return None
        items = nodes[wanted.node % len(nodes)]
        return items[wanted.item % len(items)]

    def _is_usable(self, place: Place, allowed_to_fail: bool) -> bool:
        kind = self.outcomes[place].kind
        return kind == "COMPLETED" or (kind == "FAILED" and allowed_to_fail)

    def _value(self, wanted: Input, nodes: list[list[Place | None]]) -> Any:
        if isinstance(wanted, Number):
            return wanted.value
        if isinstance(wanted, Many):
            return built(wanted.kind, [self._value(part, nodes) for part in wanted.parts])
        place = self._place(wanted, nodes)
        if place is None or not self._carries_value(place):
            return 0
        if not self._is_usable(place, wanted.allowed_to_fail):
            raise NotReady
        outcome = self.outcomes[place]
        return -1 if outcome.kind == "FAILED" else outcome.value

    def _carries_value(self, place: Place) -> bool:
        """What completed without a number (a flow that returns states, or nothing) is no input."""
        outcome = self.outcomes[place]
        return not (outcome.kind == "COMPLETED" and outcome.value is None)

    def _upstream(self, wanted: Input, nodes: list[list[Place | None]]) -> set[Place]:
        if isinstance(wanted, Number):
            return set()
        if isinstance(wanted, Many):
            return set().union(*(self._upstream(part, nodes) for part in wanted.parts))
        place = self._place(wanted, nodes)
        return set() if place is None or not self._carries_value(place) else {place}


# As flows -------------------------------------------------------------------------------------------------------------


@task
def in_thread(label: int, fails: bool, parts: Any) -> int:
    if fails:
        raise Unlucky(label)
    return combine(label, [parts])


@task
async def on_loop(label: int, fails: bool, parts: Any) -> int:
    if fails:
        raise Unlucky(label)
    return combine(label, [parts])


@task
def item_in_thread(label: int, fails: bool, parts: Any, shared: Any) -> int:
    if fails:
        raise Unlucky(label)
    return combine(label, [parts, shared])


@task
async def item_on_loop(label: int, fails: bool, parts: Any, shared: Any) -> int:
    if fails:
        raise Unlucky(label)
    return combine(label, [parts, shared])


class Execution:
    """A program as real flows: what their runs came to, and the task run of each place."""

    def __init__(self, task_runner: Any, expected: Evaluation) -> None:
        self.outcomes: dict[Place, Outcome] = {}
        self.task_run_ids: dict[Place, UUID] = {}
        self._task_runner = task_runner
        self._expected = expected

    def flow_of(self, program: Program, place: Place) -> Any:
        """Returns the flow; called with the number that it is given it returns what the program says."""
        if program.asynchronous:

            async def function(parts: Any) -> Any:
                return await _driven_on_loop(self._steps(program, place, combine(0, parts) if place else 0))
        else:

            def function(parts: Any) -> Any:  # type: ignore[misc]
                return _driven(self._steps(program, place, combine(0, parts) if place else 0))

        return flow(function, name="program", task_runner=self._task_runner, validate_parameters=False)

    def _steps(self, program: Program, place: Place, given: int) -> Generator[Callable[[], Any], Any, Any]:
        """Yields calls whose results, awaited in async flows, come back; returns what the flow returns."""
        nodes: list[list[Any]] = []
        places: list[tuple[Place, Any]] = []
        for index, node in enumerate(program.nodes):
            here = (*place, index)
            if isinstance(node, MapNode):
                items = yield from self._map(node, here, nodes)
                places += [((*here, position), item) for position, item in enumerate(items)]
                nodes.append(items)
            else:
                handle = yield from (self._task if isinstance(node, TaskNode) else self._subflow)(node, here, nodes)  # type: ignore[operator]
                places += [] if handle is None else [(here, handle)]
                nodes.append([handle])
        completed = []
        for one, handle in places:
            state = handle if isinstance(handle, State) else (yield handle.wait)
            self._note(one, state)
            value = self.outcomes[one].value
            completed += [] if value is None else [value]
        if program.returns == "raises":
            raise Unlucky(place)
        if program.returns == "states":
            return [handle for _, handle in places]
        return combine(given, completed) if program.returns == "value" else None

    def _task(self, node: TaskNode, here: Place, nodes: list[list[Any]]) -> Any:
        called = on_loop if node.asynchronous else in_thread
        arguments = (label_of(here), node.fails, self._input(node.input, here, nodes))
        waits = [self._handle(one, here, nodes) for one in node.wait_for]
        wait_for = [one for one in waits if one is not None] if node.wait_for else None
        if node.submitted:
            return (yield lambda: called.submit(*arguments, wait_for=wait_for))
        return (yield lambda: called(*arguments, wait_for=wait_for, return_state=True))

    def _map(self, node: MapNode, here: Place, nodes: list[list[Any]]) -> Any:
        from core_engine import unmapped

        called = item_on_loop if node.asynchronous else item_in_thread
        labels = [label_of((*here, index)) for index in range(len(node.items))]
        parts = [self._input(item, here, nodes) for item in node.items]
        shared = unmapped(self._input(node.shared, here, nodes))
        return (yield lambda: called.map(labels, list(node.fails), parts, shared))

    def _subflow(self, node: FlowNode, here: Place, nodes: list[list[Any]]) -> Any:
        called = self.flow_of(node.program, here)
        given = self._input(node.input, here, nodes)

        def call() -> Any:
            try:
                return called(given, return_state=True)
            except UpstreamTaskError:
                return None

        state = yield call
        return state

    def _input(self, wanted: Input, here: Place, nodes: list[list[Any]]) -> Any:
        if isinstance(wanted, Number):
            return wanted.value
        if isinstance(wanted, Many):
            return built(wanted.kind, [self._input(part, here, nodes) for part in wanted.parts])
        handle = self._handle(wanted, here, nodes, as_input=True)
        return 0 if handle is None else handle

    def _handle(self, wanted: Upstream, here: Place, nodes: list[list[Any]], as_input: bool = False) -> Any:
        if not nodes:
            return None
        index = wanted.node % len(nodes)
        items = nodes[index]
        position = wanted.item % len(items)
        handle = items[position]
        if handle is None or (as_input and not self._carries_value(here, index, position)):
            return None
        return allow_failure(handle) if wanted.allowed_to_fail else handle

    def _carries_value(self, here: Place, index: int, position: int) -> bool:
        sibling = (*here[:-1], index)
        outcome = self._expected.outcomes.get(sibling) or self._expected.outcomes[(*sibling, position)]
        return not (outcome.kind == "COMPLETED" and outcome.value is None)

    def _note(self, place: Place, state: State) -> None:
        value = state.result(fetch=False) if state.is_completed() else None
        value = value.read() if hasattr(value, "read") else value
        self.outcomes[place] = Outcome(state.type.value, value if isinstance(value, int) else None)
        assert state.state_details.task_run_id is not None
        self.task_run_ids[place] = state.state_details.task_run_id


def _driven(steps: Generator[Callable[[], Any], Any, Any]) -> Any:
    answer = None
    try:
        while True:
            answer = steps.send(answer)()
    except StopIteration as end:
        return end.value


async def _driven_on_loop(steps: Generator[Callable[[], Any], Any, Any]) -> Any:
    answer: Any = None
    try:
        while True:
            answer = steps.send(answer)()
            if inspect.isawaitable(answer) and not isinstance(answer, TaskFuture):
                try:
                    answer = await answer
                except UpstreamTaskError:
                    answer = None
    except StopIteration as end:
        return end.value
