"""Annotations: wrappers that tell the engine how to treat an argument. The user's function sees the bare value.

``unmapped(x)`` gives x whole to every child of a map, ``allow_failure(x)`` accepts a failed upstream, and
``quote(x)`` hands x over without looking inside it. They may be nested in any order; all of them count.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class BaseAnnotation(Generic[T]):
    """A value with an instruction to the engine; the subclass says which.

    Immutable. Equal when type and value are equal, hashable when the value is.

    Parameters:
        value: any object, another annotation included.
    """

    __slots__ = ("value",)

    value: T

    def __init__(self, value: T) -> None:
        object.__setattr__(self, "value", value)

    def unwrap(self) -> T:
        """Returns the value without this annotation."""
        return self.value

    def rewrap(self, value: Any) -> Self:
        """Returns another value under the same annotation."""
        return type(self)(value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; use .rewrap(value) to make another one.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; its {name!r} cannot be deleted.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseAnnotation) or type(self) is not type(other):
            return NotImplemented
        return self.value is other.value or bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    def __reduce__(self) -> tuple[type[Self], tuple[T]]:
        return type(self), (self.value,)


class unmapped(BaseAnnotation[T]):  # noqa: N801  # the vocabulary's name; it reads as a function in a call
    """In ``task.map``, passes the value whole to every child, even if it is an iterable.

    Example:
        >>> add.map([1, 2, 3], unmapped(10))  # doctest: +SKIP
    """

    __slots__ = ()

    # Having __getitem__ alone would make the object an endless iterable.
    __iter__ = None

    def __getitem__(self, index: object) -> T:
        return self.value


class allow_failure(BaseAnnotation[T]):  # noqa: N801  # as above
    """Lets a run start although this upstream failed; the function gets the exception in place of the value.

    Only the state type FAILED is accepted: a crashed, cancelled or unfinished upstream still holds the run back.
    """

    __slots__ = ()


class quote(BaseAnnotation[T]):  # noqa: N801  # as above
    """Hands a value over as it is: the engine looks for no futures or states inside, and tracks none.

    Use it for large collections without futures, and for states that are meant as data.
    """

    __slots__ = ()

    def unquote(self) -> T:
        """Returns the value without the quote."""
        return self.unwrap()


def unwrap_all(value: Any) -> tuple[Any, frozenset[type[BaseAnnotation[Any]]]]:
    """Takes off every annotation around a value.

    Parameters:
        value: any object, annotated any number of times or not at all.

    Returns:
        The bare value, and the types of all annotations that were around it (empty if none).
    """
    if not isinstance(value, BaseAnnotation):
        return value, frozenset()
    annotations = []
    while isinstance(value, BaseAnnotation):
        annotations.append(type(value))
        value = value.value
    return value, frozenset(annotations)


def rewrap_like(template: Any, value: Any, leave_out: Collection[type[BaseAnnotation[Any]]] = ()) -> Any:
    """Puts the annotations of one value around another, for instance those of a mapped list around its elements.

    Parameters:
        template: the annotated value whose annotations are repeated, in their order.
        value: what they are put around.
        leave_out: annotation types that are not repeated.

    Returns:
        The annotated value; the value itself if the template has no annotation left to repeat.
    """
    if not isinstance(template, BaseAnnotation):
        return value
    inner = rewrap_like(template.value, value, leave_out)
    return inner if type(template) in leave_out else template.rewrap(inner)
