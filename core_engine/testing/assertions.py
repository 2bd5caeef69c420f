"""Assertions about warnings, exceptions and results."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_engine.states import State


@contextmanager
def assert_does_not_warn(category: type[Warning] = Warning) -> Iterator[None]:
    """Turn a warning that the block issues into an AssertionError; other exceptions pass.

    Args:
        category: Which warnings count, with their subclasses.

    Raises:
        AssertionError: The block issued such a warning; the text has it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", category)
        try:
            yield
        except category as warning:
            raise AssertionError(f"The block issued a warning: {type(warning).__name__}: {warning}") from warning


def exceptions_equal(a: BaseException | None, b: BaseException | None) -> bool:
    """Return whether two exceptions say the same: same type and same arguments.

    Exceptions compare by identity, which does not outlast pickling. None is equal to None only.
    """
    if a is None or b is None:
        return a is b
    return type(a) is type(b) and a.args == b.args


def assert_uses_result_serializer(state: State, serializer: Any) -> None:
    """Assert that a state's result was written by a serializer.

    Args:
        state: A state whose result is persisted.
        serializer: A serializer, or the text of its type such as "json".

    Raises:
        AssertionError: The state has no persisted result, or another serializer wrote it.
    """
    expected = serializer if isinstance(serializer, str) else serializer.type
    found = getattr(state.data, "serializer_type", None)
    assert found == expected, f"The result was written by {found!r}, not by {expected!r}: {state.data!r}"


def assert_uses_result_storage(state: State, storage: Any) -> None:
    """Assert that a state's result lies in a storage.

    Args:
        state: A state whose result is persisted.
        storage: A storage, or the text of its id.

    Raises:
        AssertionError: The state has no persisted result, or it lies elsewhere.
    """
    expected = storage if isinstance(storage, str) else storage.storage_id
    found = getattr(state.data, "storage_id", None)
    assert found == expected, f"The result lies in {found!r}, not in {expected!r}: {state.data!r}"
