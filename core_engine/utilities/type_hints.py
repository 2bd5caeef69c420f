"""A function's annotations as types, also where they are texts: postponed, or quoted by hand."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from core_engine.utilities.callables import CallSignature


def resolve_annotations(function: Callable[..., Any], signature: CallSignature) -> tuple[dict[str, Any], bool]:
    """Evaluates the annotations of a function's parameters.

    Parameters:
        function: whose globals and closure give the names in postponed annotations a meaning.
        signature: its signature.

    Returns:
        The annotation by parameter, `Any` where there is none or it cannot be evaluated (names that exist only for
        type checkers, or are local to the place of definition); and whether all could be evaluated: names that are
        unknown now may be defined later.
    """
    global_names, local_names = _namespaces(function)
    annotations: dict[str, Any] = {}
    complete = True
    for name, parameter in signature.signature.parameters.items():
        annotations[name] = Any
        if parameter.annotation is inspect.Parameter.empty:
            continue
        holder: Any = SimpleNamespace(__annotations__={name: parameter.annotation})
        try:
            annotations[name] = typing.get_type_hints(holder, global_names, local_names, include_extras=True)[name]
        except Exception:  # an annotation is any expression; what cannot be evaluated says nothing about the value
            complete = False
    return annotations, complete


def _namespaces(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    code_owner: Any = function
    while isinstance(code_owner, functools.partial):
        code_owner = code_owner.func
    code_owner = inspect.unwrap(code_owner)
    if isinstance(code_owner, type):
        code_owner = vars(code_owner).get("__init__", code_owner)
    elif not hasattr(code_owner, "__globals__") and not hasattr(code_owner, "__func__"):
        code_owner = getattr(type(code_owner), "__call__", code_owner)  # noqa: B004  # its globals, not whether it is there
    code_owner = getattr(code_owner, "__func__", code_owner)
    local_names = {}
    free_variables = getattr(getattr(code_owner, "__code__", None), "co_freevars", ())
    for name, cell in zip(free_variables, getattr(code_owner, "__closure__", None) or (), strict=False):
        try:
            local_names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    if sys.version_info >= (3, 12):
        local_names.update({p.__name__: p for p in getattr(code_owner, "__type_params__", ())})
    return getattr(code_owner, "__globals__", {}), local_names
