"""What counts as a container when the engine looks inside a value, and how to take one apart.

Containers are list, tuple, set, dict and OrderedDict by exact type, instances of dataclasses and of pydantic models,
and annotations. Everything else is a leaf: texts, files, mocks, classes, and subclasses of the built-in containers,
whose constructors and meaning we cannot know.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from core_engine.annotations import BaseAnnotation

# Classes made inside functions must not be kept alive for ever, and a weak dictionary costs ten times as much.
MOST_REMEMBERED_TYPES = 4096


class Structure(NamedTuple):
    """How to take one kind of container apart and put it together again.

    Attributes:
        children: gives a container's members in visiting order. It may be the container itself: do not change it.
        rebuild: makes a new container like the given one from as many members in the same order.
    """

    children: Callable[[Any], Sequence[Any]]
    rebuild: Callable[[Any, list[Any]], Any]


def structure_of(cls: type) -> Structure | None:
    """Returns the structure of a type's instances, or None if they are leaves."""
    try:
        return _structures[cls]
    except KeyError:
        if len(_structures) >= MOST_REMEMBERED_TYPES:
            _structures.clear()
            _structures.update(_BUILT_IN)
        structure = _structures[cls] = _find_structure(cls)
        return structure


def is_mock(cls: type) -> bool:
    """Returns whether a type's instances are mocks of unittest.mock."""
    module = sys.modules.get("unittest.mock")
    return module is not None and issubclass(cls, module.NonCallableMock)


def is_model(cls: type) -> bool:
    """Returns whether a type is a pydantic model, without importing pydantic."""
    # Where a model class exists pydantic.main has been imported; to ask for pydantic.BaseModel would import it.
    module = sys.modules.get("pydantic.main")
    return module is not None and issubclass(cls, module.BaseModel)


def _find_structure(cls: type) -> Structure | None:
    if issubclass(cls, BaseAnnotation):
        return _ANNOTATION
    if is_mock(cls):
        return None
    if is_model(cls):
        return _MODEL
    if dataclasses.is_dataclass(cls):
        return _dataclass_structure(cls)
    return None


# Built-in containers ------------------------------------------------------------------------------------------------


def _same(container: Any) -> Any:
    return container


def _rebuild_like(container: Any, children: list[Any]) -> Any:
    return type(container)(children)


def _keys_and_values(mapping: Any) -> list[Any]:
    return list(chain.from_iterable(mapping.items()))


def _rebuild_mapping(mapping: Any, children: list[Any]) -> Any:
    return type(mapping)(zip(children[::2], children[1::2], strict=True))


# Annotations --------------------------------------------------------------------------------------------------------


def _annotated_value(annotation: BaseAnnotation[Any]) -> tuple[Any]:
    return (annotation.value,)


def _rewrap(annotation: BaseAnnotation[Any], children: list[Any]) -> BaseAnnotation[Any]:
    return annotation.rewrap(children[0])


# Dataclasses --------------------------------------------------------------------------------------------------------


def _dataclass_structure(cls: type) -> Structure:
    names = tuple(field.name for field in dataclasses.fields(cls))

    def present(instance: Any) -> list[str]:
        # A field without default that __init__ does not set may be missing.
        return [name for name in names if hasattr(instance, name)]

    def children(instance: Any) -> list[Any]:
        try:
            return [getattr(instance, name) for name in names]
        except AttributeError:
            return [getattr(instance, name) for name in present(instance)]

    def rebuild(instance: Any, new: list[Any]) -> Any:
        # A copy, not a call of the class: __init__ may take other arguments, and __post_init__ must not run twice.
        clone = copy.copy(instance)
        for name, value in zip(present(instance), new, strict=True):
            object.__setattr__(clone, name, value)  # works on frozen ones too
        return clone

    return Structure(children, rebuild)


# Pydantic models ----------------------------------------------------------------------------------------------------


def _field_names(model: Any) -> list[str]:
    # A model made by model_construct may lack fields; cached properties stand in __dict__ as well.
    values = model.__dict__
    return [name for name in type(model).model_fields if name in values]


def _field_values(model: Any) -> list[Any]:
    values = model.__dict__
    children = [values[name] for name in type(model).model_fields if name in values]
    extra = model.model_extra
    return [*children, *extra.values()] if extra else children


def _rebuild_model(model: Any, children: list[Any]) -> Any:
    # The copy keeps private attributes and the set of fields that were given. Writing into its dictionaries passes by
    # validation, aliases and immutability, which were the business of whoever made the model.
    clone = copy.copy(model)
    names = _field_names(model)
    clone.__dict__.update(zip(names, children, strict=False))
    if clone.model_extra:
        clone.model_extra.update(zip(list(clone.model_extra), children[len(names) :], strict=True))
    return clone


_SEQUENCE = Structure(_same, _rebuild_like)
_MAPPING = Structure(_keys_and_values, _rebuild_mapping)
_ANNOTATION = Structure(_annotated_value, _rewrap)
_MODEL = Structure(_field_values, _rebuild_model)

_BUILT_IN: dict[type, Structure | None] = {
    list: _SEQUENCE,
    tuple: _SEQUENCE,
    set: Structure(list, _rebuild_like),
    dict: _MAPPING,
    OrderedDict: _MAPPING,
}

# Written by any thread, without a lock: an entry is computed from its key alone, so a lost write costs only time.
_structures: dict[type, Structure | None] = dict(_BUILT_IN)
