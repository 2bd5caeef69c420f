"""What a function that travels by value takes along from around it, which may be another thing at the next map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from core_engine.remote.shipment import travels_by_name

if TYPE_CHECKING:
    from core_engine.tasks import Task


def captured(task: Task[..., Any]) -> list[Any]:
    """Returns what is bound now to the names that a task's function has from around it, its helpers' included.

    Nothing for a task that workers import. What is changed in place stays the same object, and is not seen here.
    """
    found: list[Any] = []
    functions: dict[int, FunctionType] = {}
    waiting: list[Any] = [] if travels_by_name(task) else [task.fn]
    while waiting:
        function = waiting.pop()
        if type(function) is not FunctionType or id(function) in functions or travels_by_name(function):
            continue
        functions[id(function)] = function
        bound = [*_contents(function.__closure__ or ()), *_globals(function)]
        found.extend(bound)
        waiting.extend(bound)
    return found


def is_same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Returns whether two ``captured`` hold the same objects."""
    return len(one) == len(other) and all(map(_is, one, other))


def _is(one: Any, other: Any) -> bool:
    return one is other


def _contents(cells: Sequence[CellType]) -> Iterator[Any]:
    for cell in cells:
        try:
            yield cell.cell_contents
        except ValueError:  # nothing is bound yet
            yield None


def _globals(function: FunctionType) -> Iterator[Any]:
    for name in _names(function.__code__):
        yield function.__globals__.get(name)


@lru_cache(maxsize=1024)
def _names(code: CodeType) -> tuple[str, ...]:
    inner = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant)]
    return (*code.co_names, *inner)
