"""Storage keys: the names of stored results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def random_key() -> str:
    """Returns 32 random hexadecimal digits: the key where none is chosen."""
    return os.urandom(16).hex()


class KeyTemplate:
    """A fixed key, or one with ``{parameters[name]}``, ``{flow_run.flow_name}``, ``{task_run.name}`` and the like.

    Calling it fills the template from the run in whose context it is called.
    """

    __slots__ = ("is_fixed", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_fixed = "{" not in text and "}" not in text

    def __call__(self) -> str:
        return self.fill(None)

    def fill(self, parameters: Mapping[str, Any] | None) -> str:
        """Returns the key.

        Parameters:
            parameters: The run's parameters with defaults; None takes them from the run's context.

        Raises:
            ValueError: The template names something that there is not, or is no valid template.
        """
        if self.is_fixed:
            return self.text
        if parameters is None:
            parameters = _parameters_here()
        names: dict[str, Any] = {}
        if "_run" in self.text:
            from core_engine.runtime import flow_run, task_run

            names = {"flow_run": flow_run, "task_run": task_run}
        try:
            return self.text.format(parameters=parameters, **names)
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise ValueError(
                f"result_storage_key {self.text!r} cannot be filled in: {type(error).__name__}: {error}. It may name "
                f"parameters[...] (here: {', '.join(parameters) or 'none'}), and attributes of flow_run and task_run."
            ) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyTemplate) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"KeyTemplate({self.text!r})"


def _parameters_here() -> Mapping[str, Any]:
    from core_engine.context import FlowRunContext, TaskRunContext

    context = TaskRunContext.get() or FlowRunContext.get()
    return {} if context is None else context.parameters


def check_key(key: object) -> str:
    """Returns `key` if it is a path below its storage.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, or leaves the storage.
    """
    if not isinstance(key, str):
        raise TypeError(f"A storage key must be a text, but the key function gave {type(key).__name__}: {key!r}.")
    # Keys are made of parameters too: none may reach files outside of the storage.
    if not key or key.startswith("/") or key.endswith("/") or "\0" in key or ".." in key.split("/"):
        raise ValueError(
            f"{key!r} cannot be the key of a stored result: it must be a relative path below the storage, without '..'."
        )
    return key
