"""The search for the part of a value that cannot be pickled."""

import json
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import pydantic
import pytest

from core_engine.results.unpicklable import find_unpicklable

LOCK = threading.Lock()


class Holder:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def method(self) -> None:
        pass


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@dataclass
class Record:
    inner: Any


class Model(pydantic.BaseModel):
    inner: Any


class Refusing:
    def __reduce__(self) -> Any:
        raise RuntimeError("never")


def closing_over(captured: Any) -> Any:
    return lambda: captured


def with_default(default: Any) -> Any:
    exec_globals: dict[str, Any] = {"default": default, "__name__": "__main__"}
    exec("def function(x=default): return x", exec_globals)
    return exec_globals["function"]


def naming_a_global() -> Any:
    exec_globals: dict[str, Any] = {"shared": LOCK, "__name__": "__main__"}
    exec("def function(): return shared", exec_globals)
    return exec_globals["function"]


def error_with(attribute: Any) -> Exception:
    error = ValueError("x")
    error.extra = attribute  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "value"),
        ([1, [LOCK]], "value[1][0]"),
        ({"a": (1, LOCK)}, "value['a'][1]"),
        ({LOCK: 1}, "value.keys()[0]"),
        ({LOCK}, "value[0]"),
        ({(1, 2): LOCK}, "value[<tuple>]"),
        (Holder({"x": Slotted(LOCK)}), "value.inner['x'].inner"),
        (Record(Model(inner=LOCK)), "value.inner.inner"),
        (error_with(LOCK), "value.extra"),
        (ValueError(1, LOCK), "value.args[1]"),
        (Holder(LOCK).method, "value.__self__.inner"),
        (closing_over([LOCK]), "value.<variable captured>[0]"),
        (with_default(LOCK), "value.__defaults__[0]"),
        (naming_a_global(), "value.<global shared>"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_path_leads_to_the_innermost_culprit(value: Any, path: str) -> None:
    assert find_unpicklable(value) == (path, type(LOCK))


def test_what_can_be_pickled_has_no_culprit() -> None:
    assert find_unpicklable({"a": [1, Holder(2), lambda: 3]}) is None


def test_an_object_that_refuses_is_the_culprit_itself() -> None:
    assert find_unpicklable([Refusing()], name="x") == ("x[0]", Refusing)


def test_parts_that_only_fail_together_are_not_blamed_one_by_one() -> None:
    def dumps(value: Any) -> object:
        if isinstance(value, list) and len(value) > 1:
            raise ValueError("too long")
        return value

    assert find_unpicklable([1, 2, 3], dumps) == ("value", list)


def test_a_partial_is_taken_apart() -> None:
    path, kind = find_unpicklable(partial(print, LOCK)) or ("", None)
    assert kind is type(LOCK)
    assert path.startswith("value.")


def test_a_value_that_contains_itself_ends_the_search() -> None:
    value: dict[str, Any] = {}
    value["self"] = Holder(value)
    value["lock"] = LOCK
    assert find_unpicklable(value) is not None


def test_a_culprit_among_many_costs_a_few_passes_not_a_call_for_each_member() -> None:
    calls = 0

    def dumps(value: Any) -> object:
        nonlocal calls
        calls += 1
        return json.dumps(value)

    value: list[Any] = list(range(10_000))
    value[7_654] = LOCK
    assert find_unpicklable(value, dumps) == ("value[7654]", type(LOCK))
    assert calls < 40
