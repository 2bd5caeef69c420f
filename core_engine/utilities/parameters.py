"""Validates a flow's parameters against the annotations of its function, with pydantic.

Each parameter has a validator of its own: names cannot clash with anything of pydantic's, and one parameter's trouble
says nothing about the others. Load this module only when there is something to validate: it imports pydantic.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import CoreSchema, SchemaError, core_schema

from core_engine.exceptions import ParameterTypeError
from core_engine.utilities.callables import CallSignature, call_signature
from core_engine.utilities.type_hints import resolve_annotations

# Flow scripts of this vocabulary may count on numbers being accepted as texts.
VALIDATION_CONFIG = ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True)

# Names that begin so belong to validation in this vocabulary, and are refused at definition.
RESERVED_PREFIX = "v__"

# How many reasons are given for one parameter; a list of a million bad elements has as many.
MOST_REASONS = 5

# pydantic would replace these by one-shot iterators of its own; the function is to see the caller's object.
_LAZY_TYPES = (
    *(collections.abc.Iterable, collections.abc.Iterator, collections.abc.Generator, collections.abc.Reversible),
    *(collections.abc.AsyncIterable, collections.abc.AsyncIterator, collections.abc.AsyncGenerator),
)


def validate_parameters(function: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Checks parameters against a function's annotations and coerces them leniently.

    Parameters:
        function: the flow's function.
        parameters: values by parameter; those with a default may be missing.

    Returns:
        All parameters in the signature's order, coerced: ``"1"`` to 1 for an int, elements of collections, dicts to
        models. Instances of annotated classes stay the same objects.

    Raises:
        SignatureMismatchError: the names do not fit the signature.
        ParameterTypeError: values do not fit; the message has an entry ``parameter: reason`` for each.
        ValueError: an annotation cannot be used for validation.
    """
    signature = call_signature(function)
    return _validator(function, signature).validate(signature.fill(parameters))


def check_signature_is_validatable(function: Callable[..., Any]) -> None:
    """Refuses, when a flow is defined, a signature whose parameters cannot be validated.

    Raises:
        ValueError: names the parameter, the reason, and the ways out.
    """
    signature = call_signature(function)
    for name in signature.parameter_names:
        if name.startswith(RESERVED_PREFIX):
            raise _cannot_validate(signature, name, f"names beginning with {RESERVED_PREFIX!r} belong to validation")
    _validator(function, signature)


class ParameterValidator:
    """The validators of one function's parameters, made once.

    Parameters:
        signature: the function's signature.
        annotations: the type of each parameter.

    Raises:
        ValueError: an annotation cannot be used for validation.
    """

    def __init__(self, signature: CallSignature, annotations: Mapping[str, Any]) -> None:
        self._signature = signature
        self.adapters: dict[str, TypeAdapter[Any]] = {}
        for name, parameter in signature.signature.parameters.items():
            annotation = full_annotation(parameter, annotations[name])
            if annotation is not Any:
                self.adapters[name] = self._adapter(name, annotation)

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the coerced parameters; raises ParameterTypeError as `validate_parameters` does."""
        coerced = dict(parameters)
        misfits: dict[str, ValidationError] = {}
        for name, adapter in self.adapters.items():
            try:
                (coerced[name],) = adapter.validate_python((parameters[name],))
            except ValidationError as error:
                # A default that does not fit is its author's choice, such as a sentinel.
                if parameters[name] is not self._signature.defaults.get(name, Parameter.empty):
                    misfits[name] = error
        if misfits:
            raise ParameterTypeError(self._message(misfits, parameters))
        return coerced

    def _message(self, misfits: Mapping[str, ValidationError], parameters: Mapping[str, Any]) -> str:
        entries = [
            f"{name}: {_reasons(error)} (received {type(parameters[name]).__name__})" for name, error in misfits.items()
        ]
        return f"Parameters of {self._signature.name!r} do not fit their annotations:\n" + "\n".join(entries)

    def _adapter(self, name: str, annotation: Any) -> TypeAdapter[Any]:
        try:
            return _adapter_of(annotation)
        except (PydanticUserError, SchemaError, TypeError, AttributeError) as error:
            if isinstance(annotation, type):  # a class that pydantic can make nothing of
                return _adapter_of(_instance_of(annotation))
            reason = f"nothing validates {annotation!r}: {str(error).strip().partition(chr(10))[0]}"
            raise _cannot_validate(self._signature, name, reason) from error


def full_annotation(parameter: Parameter, annotation: Any) -> Any:
    """Returns the type of the value that a parameter holds: tuples and dicts for variadics, optional for None."""
    if annotation is Any:
        return Any
    annotation = _usable(annotation)
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return tuple[annotation, ...]
    if parameter.kind is Parameter.VAR_KEYWORD:
        unpacked = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Unpack else ()
        return unpacked[0] if unpacked else dict[str, annotation]
    # `x: int = None` has always meant that x may be None.
    return typing.Optional[annotation] if parameter.default is None else annotation  # noqa: UP045


def _usable(annotation: Any) -> Any:
    """Replaces, at any depth, types that pydantic refuses, or of which it would make something else."""
    origin = typing.get_origin(annotation)
    if origin in _LAZY_TYPES or annotation in _LAZY_TYPES:
        return _instance_of(origin or annotation)
    if sys.version_info < (3, 12) and type(annotation) is type(_ATypedDict):
        return dict[str, Any]
    if getattr(annotation, "_is_protocol", False) and not getattr(annotation, "_is_runtime_protocol", False):
        return Any
    arguments = typing.get_args(annotation)
    if origin in _OPAQUE_ORIGINS or not arguments:
        return annotation
    replaced = tuple(_usable(argument) for argument in arguments)
    if replaced == arguments:
        return annotation
    return typing.Union[replaced] if origin in (typing.Union, types.UnionType) else origin[replaced]  # noqa: UP007


class _ATypedDict(typing.TypedDict):
    """For its type only: pydantic takes those of typing_extensions, but before Python 3.12 not those of typing."""


# What stands in their brackets is no plain list of types.
_OPAQUE_ORIGINS = (typing.Annotated, typing.Literal, collections.abc.Callable, typing.Unpack, type)


@dataclasses.dataclass(frozen=True)
class _InstanceOf:
    """Tells pydantic to check the class and nothing else; its own InstanceOf asks the class for a validator first."""

    cls: type

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.is_instance_schema(self.cls)


def _instance_of(cls: type) -> Any:
    return typing.Annotated[Any, _InstanceOf(cls)]


def _adapter_of(annotation: Any) -> TypeAdapter[Any]:
    # In a tuple, because pydantic takes no configuration along with a bare model or dataclass.
    in_tuple: Any = types.GenericAlias(tuple, (annotation,))
    return TypeAdapter(in_tuple, config=VALIDATION_CONFIG)


def _reasons(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    reasons = []
    for detail in details[:MOST_REASONS]:
        where = ".".join(str(step) for step in detail["loc"][1:])  # the first is the place in our tuple
        reasons.append(f"at {where}: {detail['msg']}" if where else detail["msg"])
    if len(details) > MOST_REASONS:
        reasons.append(f"and {len(details) - MOST_REASONS} more")
    return "; ".join(reasons)


def _cannot_validate(signature: CallSignature, name: str, reason: str) -> ValueError:
    return ValueError(
        f"The parameter {name!r} of {signature.name!r} cannot be validated: {reason}. "
        "Rename or re-annotate the parameter, or turn validation off with validate_parameters=False."
    )


# Weak, so that functions made on the fly can go. Any thread writes; a lost entry is made again.
_validators: WeakKeyDictionary[Callable[..., Any], ParameterValidator] = WeakKeyDictionary()


def _validator(function: Callable[..., Any], signature: CallSignature) -> ParameterValidator:
    try:
        known = _validators.get(function)
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        return ParameterValidator(signature, resolve_annotations(function, signature)[0])
    if known is None:
        annotations, complete = resolve_annotations(function, signature)
        known = ParameterValidator(signature, annotations)
        if complete:  # else the names may be defined by the next time
            _validators[function] = known
    return known
