"""The JSON schema of a function's parameters. Loaded only when a schema is asked for: it imports pydantic."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import PydanticSerializationError, core_schema, to_jsonable_python

from core_engine.utilities.callables import call_signature
from core_engine.utilities.docstrings import parameter_descriptions
from core_engine.utilities.parameters import ParameterValidator
from core_engine.utilities.type_hints import resolve_annotations

_VARIADICS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_VALIDATION: JsonSchemaMode = "validation"


class ParameterSchema(dict[str, Any]):
    """A JSON schema: a plain dictionary whose keys can be read as attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"This schema has no {name!r}; it has {', '.join(self)}.") from None

    def dict(self) -> dict[str, Any]:
        """Returns the schema as an ordinary dictionary."""
        return {**self}


def parameter_schema(function: Callable[..., Any]) -> ParameterSchema:
    """Describes a function's parameters as a JSON schema.

    Parameters:
        function: any callable whose signature can be read; ``self`` and ``cls`` are no parameters.

    Returns:
        ``title`` "Parameters", ``type`` "object", and ``properties`` in the signature's order, each with ``title``,
        ``position`` (from 0), ``default`` if it has one that JSON can hold, ``description`` from the docstring's
        "Args" section, and what its annotation says: nothing if it has none or one that JSON schema cannot express.
        ``required`` and ``definitions`` (of models and enums) only if there are any.

    Raises:
        ValueError: an annotation cannot be used for validation.
    """
    signature = call_signature(function)
    adapters = ParameterValidator(signature, resolve_annotations(function, signature)[0]).adapters
    types, definitions = _schemas_of(adapters)
    descriptions = parameter_descriptions(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for position, (name, parameter) in enumerate(signature.signature.parameters.items()):
        schema = properties[name] = {"title": name, "position": position, **types.get(name, _untyped(parameter))}
        if name in descriptions:
            schema["description"] = descriptions[name]
        if parameter.default is not Parameter.empty:
            schema.update(_default(parameter.default))
        elif parameter.kind not in _VARIADICS:
            required.append(name)
    result = ParameterSchema(title="Parameters", type="object", properties=properties)
    if required:
        result["required"] = required
    if definitions:
        result["definitions"] = definitions
    return result


def _schemas_of(adapters: dict[str, TypeAdapter[Any]]) -> tuple[dict[str, JsonSchemaValue], JsonSchemaValue]:
    """Returns the schema of each parameter's type, and the definitions they refer to."""
    if not adapters:
        return {}, {}
    schemas, definitions = TypeAdapter.json_schemas(
        [(name, _VALIDATION, adapter) for name, adapter in adapters.items()],
        ref_template="#/definitions/{model}",
        schema_generator=_LenientGenerator,
    )
    # Each adapter is one of a tuple with a single element.
    types = {name: schemas[name, _VALIDATION]["prefixItems"][0] for name in adapters}
    # Readers of this kind of schema ignore what stands beside a bare reference.
    types = {name: {"allOf": [schema]} if "$ref" in schema else schema for name, schema in types.items()}
    return types, definitions.get("$defs", {})


class _LenientGenerator(GenerateJsonSchema):
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # as pydantic declares it

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return {"type": "number", "format": "time-delta"}


def _untyped(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return {"type": "array", "items": {}}
    return {"type": "object"} if parameter.kind is Parameter.VAR_KEYWORD else {}


def _default(default: Any) -> dict[str, Any]:
    try:
        return {"default": to_jsonable_python(default)}
    except (PydanticSerializationError, ValueError, RecursionError):
        return {}  # still not required, but JSON cannot say what it is
