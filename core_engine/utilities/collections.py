"""Helpers for nested collections: visit and rebuild them, find handles in them, read and flatten dictionaries."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from core_engine.annotations import BaseAnnotation
from core_engine.utilities.dictionaries import (
    dict_to_flatdict,
    flatdict_to_dict,
    get_from_dict,
    remove_nested_keys,
)
from core_engine.utilities.handles import find_all, may_contain, resolve, self_reference_message
from core_engine.utilities.structures import Structure, is_mock, is_model, structure_of

__all__ = [
    "StopVisiting",
    "dict_to_flatdict",
    "find_all",
    "flatdict_to_dict",
    "get_from_dict",
    "isiterable",
    "may_contain",
    "remove_nested_keys",
    "resolve",
    "visit_collection",
]


class StopVisiting(BaseException):
    """Raised by a visit function to keep the node as it is and not to look inside it."""


def visit_collection(
    expr: Any,
    visit_fn: Callable[..., Any],
    return_data: bool = False,
    max_depth: int = -1,
    context: dict[str, Any] | None = None,
    remove_annotations: bool = False,
) -> Any:
    """Calls a function on every node of a nested collection, parents first, and rebuilds it if asked to.

    Looked into: list, tuple, set, dict, OrderedDict, instances of dataclasses and pydantic models (public and extra
    fields), annotations, and iterators, which are consumed and become lists. Not looked into: str, bytes, file-like
    objects, mocks, classes, and subclasses of the built-in collections.

    Parameters:
        expr: the collection, or any other object.
        visit_fn: called with each node, dictionary keys before their values; with the context as second argument if
            there is one. With ``return_data`` what it returns takes the node's place, and is what is looked into.
            It may raise `StopVisiting`.
        return_data: whether to rebuild; the containers are new ones of the same types.
        max_depth: how many levels below ``expr`` are visited: 0 only ``expr``; negative means all.
        context: a dictionary for ``visit_fn``, copied for each node: changes are seen by the node's children only.
            Its key "annotation" holds the nearest annotation around the node. None passes no context.
        remove_annotations: whether the rebuilt collection holds bare values in place of annotated ones.

    Returns:
        The rebuilt collection, or None without ``return_data``.

    Raises:
        ValueError: a container holds itself.
    """
    result = _Visit(visit_fn, return_data, remove_annotations).visit(expr, max_depth, context)
    return result if return_data else None


class _Visit:
    """One call of `visit_collection`."""

    __slots__ = ("_ancestors", "_remove_annotations", "_return_data", "_visit_fn")

    def __init__(self, visit_fn: Callable[..., Any], return_data: bool, remove_annotations: bool) -> None:
        self._visit_fn = visit_fn
        self._return_data = return_data
        self._remove_annotations = remove_annotations
        self._ancestors: set[int] = set()

    def visit(self, node: Any, depth: int, context: dict[str, Any] | None) -> Any:
        """Visits a node and the levels below it, ``depth`` of them; returns what takes its place."""
        context = None if context is None else context.copy()
        try:
            visited = self._visit_fn(node) if context is None else self._visit_fn(node, context)
        except StopVisiting:
            return node
        if self._return_data:
            node = visited
        structure = _structure_to_visit(type(node))
        if structure is None:
            return node
        if depth == 0:
            return self._unwrapped(node)
        return self._visit_inside(node, structure, depth - 1, context)

    def _visit_inside(self, node: Any, structure: Structure, depth: int, context: dict[str, Any] | None) -> Any:
        if id(node) in self._ancestors:
            raise ValueError(self_reference_message(node))
        if context is not None and isinstance(node, BaseAnnotation):
            context["annotation"] = node
        self._ancestors.add(id(node))
        try:
            children = [self.visit(child, depth, context) for child in structure.children(node)]
        finally:
            self._ancestors.discard(id(node))
        if not self._return_data:
            return None
        if self._remove_annotations and isinstance(node, BaseAnnotation):
            return children[0]
        return structure.rebuild(node, children)

    def _unwrapped(self, node: Any) -> Any:
        while self._remove_annotations and isinstance(node, BaseAnnotation):
            node = node.value
        return node


def _structure_to_visit(cls: type) -> Structure | None:
    structure = structure_of(cls)
    if structure is None and issubclass(cls, Iterator) and not is_mock(cls) and not _is_file_like(cls):
        return _ITERATOR
    return structure


_ITERATOR = Structure(children=list, rebuild=lambda _, children: children)


def _is_file_like(cls: type) -> bool:
    return issubclass(cls, io.IOBase) or hasattr(cls, "read")


def isiterable(obj: Any) -> bool:
    """Returns whether an object is a collection or stream of items, as ``task.map`` understands it.

    False for texts, bytes, files, exceptions, mocks and pydantic models, though some of them can be iterated over.
    """
    cls = type(obj)
    if issubclass(cls, (str, bytes, bytearray, BaseException)) or _is_file_like(cls) or is_mock(cls) or is_model(cls):
        return False
    try:
        iter(obj)
    except TypeError:
        return False
    return True


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
