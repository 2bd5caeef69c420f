"""Finds and replaces handles (futures and states, whatever types the caller names) inside arguments.

`may_contain` is asked once per argument of every task run, so it is fast for what most arguments are: atoms, and
collections of atoms. Nothing here consumes an iterator, and nothing looks inside a `quote`.
"""

from __future__ import annotations

import datetime
import operator
import types as python_types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from core_engine.annotations import BaseAnnotation, quote, unwrap_all
from core_engine.utilities.structures import MOST_REMEMBERED_TYPES, structure_of

# Types whose instances hold nothing that could be a handle. A set of exact types, so that one look-up decides.
ATOMS: frozenset[type] = frozenset(
    {
        *(bool, int, float, complex, str, bytes, bytearray, range, slice, type),
        *(type(None), type(...), type(NotImplemented)),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(python_types.FunctionType, python_types.BuiltinFunctionType, python_types.MethodType),
        python_types.ModuleType,
    }
)

AnnotationTypes = frozenset[type[BaseAnnotation[Any]]]
_NO_ANNOTATIONS: AnnotationTypes = frozenset()


class Found(NamedTuple):
    """A handle, and the types of all annotations around it."""

    handle: Any
    annotations: AnnotationTypes


def may_contain(value: Any, types: tuple[type, ...]) -> bool:
    """Tells whether a value is, or holds anywhere inside, an instance of some types.

    Parameters:
        value: anything. Reference cycles and shared parts are fine; quotes and iterators are not searched.
        types: what is looked for; a constant of the caller, because what was learnt is kept per tuple. Name
            `BaseAnnotation` too when annotations must be taken off. Atoms (numbers, texts, ...) are never found.

    Returns:
        Whether `find_all` or `resolve` would find something.
    """
    if type(value) in ATOMS:
        return False
    known = _known.get(types)
    if known is None or len(known.leaves) > MOST_REMEMBERED_TYPES:
        known = _known[types] = _KnownTypes(types)
    return type(value) not in known.leaves and _search(value, known)


class _KnownTypes:
    """What has been learnt about types in the search for some others.

    Any thread adds to it. What is added about a type depends on the type alone, so no lock is needed.
    """

    __slots__ = ("containers", "leaves", "types")

    def __init__(self, types: tuple[type, ...]) -> None:
        self.types = types
        self.leaves = set(ATOMS)
        self.containers: dict[type, Callable[[Any], Sequence[Any]]] = {}

    def learn(self, cls: type) -> None:
        """Files a type that is not sought itself under leaves or containers."""
        structure = None if issubclass(cls, quote) else structure_of(cls)
        if structure is None:
            self.leaves.add(cls)
        else:
            if len(self.containers) > MOST_REMEMBERED_TYPES:
                self.containers.clear()
            self.containers[cls] = structure.children


_known: dict[tuple[type, ...], _KnownTypes] = {}


def _search(value: Any, known: _KnownTypes) -> bool:
    leaves, containers = known.leaves, known.containers
    pending = [value]
    # Nodes are kept, not only their ids: the id of a node that has gone could come back as another's.
    seen: dict[int, Any] = {}
    while pending:
        node = pending.pop()
        cls = type(node)
        if cls in leaves or id(node) in seen:
            continue
        children_of = containers.get(cls)
        if children_of is None:
            if issubclass(cls, known.types):
                return True
            known.learn(cls)
            pending.append(node)
            continue
        children = children_of(node)
        if not leaves.issuperset(map(type, children)):
            seen[id(node)] = node
            pending.extend(children)
    return False


def find_all(value: Any, types: tuple[type, ...]) -> list[Found]:
    """Lists the handles inside a value, from left to right, a parent's before its children's.

    Parameters:
        value: anything, as in `may_contain`. What occurs several times may be listed several times.
        types: the types of the handles.

    Returns:
        Each handle with the annotations around it.
    """
    found: list[Found] = []
    pending: list[tuple[Any, AnnotationTypes]] = [(value, _NO_ANNOTATIONS)]
    seen: dict[tuple[int, AnnotationTypes], Any] = {}
    while pending:
        node, annotations = pending.pop()
        cls = type(node)
        if cls in ATOMS:
            continue
        if issubclass(cls, BaseAnnotation):
            if not issubclass(cls, quote):
                pending.append((node.value, annotations | {cls}))
        elif issubclass(cls, types):
            found.append(Found(node, annotations))
        elif (structure := structure_of(cls)) is not None and (id(node), annotations) not in seen:
            seen[id(node), annotations] = node
            pending.extend((child, annotations) for child in reversed(structure.children(node)))
    return found


def resolve(
    value: Any,
    types: tuple[type, ...],
    replace: Callable[[Any, AnnotationTypes], Any],
    *,
    keep_annotations: bool = False,
) -> Any:
    """Replaces the handles inside a value and takes the annotations off, copying only what changes.

    Parameters:
        value: anything. What holds no handle and no annotation comes back as the same object, also as a part of a
            collection that changes; what occurs twice is rebuilt once.
        types: the types of the handles.
        replace: called with a handle and the types of all annotations around it; returns what stands in its place.
        keep_annotations: False for arguments, since functions see bare values. True for what a function returned:
            annotations stay around their (replaced) values.

    Returns:
        The value with its handles replaced; a container keeps its type. What a quote holds stays as it is.

    Raises:
        ValueError: a container that holds itself would have to change.
    """
    return _Resolution(types, replace, keep_annotations).resolve(value, _NO_ANNOTATIONS)


class _Resolution:
    __slots__ = ("_keep_annotations", "_open", "_reentered", "_replace", "_results", "_types")

    def __init__(
        self, types: tuple[type, ...], replace: Callable[[Any, AnnotationTypes], Any], keep_annotations: bool
    ) -> None:
        self._types = types
        self._replace = replace
        self._keep_annotations = keep_annotations
        # Keyed by id and annotations; the node itself is kept so that its id stays its own.
        self._results: dict[tuple[int, AnnotationTypes], tuple[Any, Any]] = {}
        self._open: set[tuple[int, AnnotationTypes]] = set()
        self._reentered: set[tuple[int, AnnotationTypes]] = set()

    def resolve(self, node: Any, annotations: AnnotationTypes) -> Any:
        cls = type(node)
        if cls in ATOMS:
            return node
        if issubclass(cls, BaseAnnotation):
            return self._resolve_annotated(node, annotations)
        if issubclass(cls, self._types):
            return self._replace(node, annotations)
        return self._resolve_container(node, annotations)

    def _resolve_annotated(self, node: BaseAnnotation[Any], annotations: AnnotationTypes) -> Any:
        if isinstance(node, quote):
            return node if self._keep_annotations else unwrap_all(node)[0]
        value = self.resolve(node.value, annotations | {type(node)})
        if not self._keep_annotations:
            return value
        return node if value is node.value else node.rewrap(value)

    def _resolve_container(self, node: Any, annotations: AnnotationTypes) -> Any:
        structure = structure_of(type(node))
        if structure is None:
            return node
        key = (id(node), annotations)
        if key in self._results:
            return self._results[key][1]
        if key in self._open:
            # A cycle is harmless as long as nothing on it changes; whether it does is known further up.
            self._reentered.add(key)
            return node
        self._open.add(key)
        children = structure.children(node)
        if ATOMS.issuperset(map(type, children)):
            replaced = list(children)
        else:
            replaced = [self.resolve(child, annotations) for child in children]
        self._open.discard(key)
        if all(map(operator.is_, children, replaced)):
            result = node
        elif key in self._reentered:
            raise ValueError(self_reference_message(node))
        else:
            result = structure.rebuild(node, replaced)
        self._results[key] = (node, result)
        return result


def self_reference_message(container: Any) -> str:
    """Returns the text of the error about a container that holds itself."""
    return (
        f"A {type(container).__name__} holds itself, directly or through its members, so it cannot be searched and "
        "rebuilt. Break the cycle, or wrap the value in quote(...) so that nothing looks inside."
    )
