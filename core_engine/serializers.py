"""Serializers: values to bytes and back.

``result_serializer`` takes a type text ("pickle", "json", "compressed/pickle", "compressed/json", or that of a class of
one's own) or an instance. A serializer of one's own is a subclass with a `type`, `dumps` and `loads`; annotated class
attributes are its options::

    class LinesSerializer(Serializer):
        type = "lines"
        separator: str = ","

        def dumps(self, obj): return self.separator.join(obj).encode()
        def loads(self, blob): return blob.decode().split(self.separator)

A serializer is not changed once it is made. Reading makes objects of whatever classes the bytes name: read only what
you trust.
"""

from __future__ import annotations

import base64
import inspect
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from core_engine.exceptions import SerializationError

__all__ = [
    "CompressedJSONSerializer",
    "CompressedPickleSerializer",
    "CompressedSerializer",
    "JSONSerializer",
    "PickleSerializer",
    "Serializer",
    "resolve_serializer",
    "serializer_from_dict",
]

DEFAULT_ENCODER = "core_engine.serializers.encode_json_object"
DEFAULT_DECODER = "core_engine.serializers.decode_json_object"

_by_type: dict[str, type[Serializer]] = {}


def _is_option(name: str, annotation: object) -> bool:
    return name != "type" and not name.startswith("_") and "ClassVar" not in str(annotation)


def _register(cls: type[Serializer]) -> None:
    taken = _by_type.get(cls.type)
    if taken is not None and taken.__module__ == __name__ != cls.__module__:
        raise ValueError(
            f"The serializer type {cls.type!r} is taken by {taken.__name__}; give {cls.__name__} another one."
        )
    _by_type[cls.type] = cls


class Serializer:
    """Base of serializers. Its options are keywords.

    Attributes:
        type: The text that selects the class; a subclass with a `type` of its own is registered when it is defined.

    Raises:
        ValueError: An option is unknown, lacks, or has a value that cannot be used.
    """

    type: ClassVar[str] = ""
    _required = object()
    _options: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        annotations = inspect.get_annotations(cls)
        own = {name: getattr(cls, name, cls._required) for name in annotations if _is_option(name, annotations[name])}
        cls._options = {**cls._options, **own}
        if cls.__dict__.get("type"):
            _register(cls)

    def __init__(self, **options: Any) -> None:
        unknown = sorted(options.keys() - self._options.keys())
        if unknown:
            known = ", ".join(self._options) or "none"
            raise ValueError(f"{type(self).__name__} has no option {', '.join(unknown)}; it has: {known}.")
        for name, default in self._options.items():
            value = options.get(name, default)
            if value is self._required:
                raise ValueError(f"{type(self).__name__} needs the option {name!r}.")
            # Mutable defaults are not shared between instances.
            self.__dict__[name] = dict(value) if isinstance(value, Mapping) else value
        self.validate()

    def validate(self) -> None:
        """Checks the options, once they are set. Raises ValueError for one that cannot be used."""

    def dumps(self, obj: Any) -> bytes:
        """Returns `obj` as bytes. Raises SerializationError if that cannot be."""
        raise NotImplementedError(f"{type(self).__name__} must define dumps(obj).")

    def loads(self, blob: bytes) -> Any:
        """Returns the value that `dumps` made `blob` of."""
        raise NotImplementedError(f"{type(self).__name__} must define loads(blob).")

    def to_dict(self) -> dict[str, Any]:
        """Returns type and options as JSON values, from which `serializer_from_dict` makes the same serializer."""
        described: dict[str, Any] = {"type": self.type}
        if not type(self).__module__.startswith("core_engine."):
            described["class"] = f"{type(self).__module__}.{type(self).__qualname__}"
        for name in self._options:
            value = getattr(self, name)
            described[name] = value.to_dict() if isinstance(value, Serializer) else value
        return described

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), self.type))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._options)
        return f"{type(self).__name__}({options})"


class PickleSerializer(Serializer):
    """Pickles, as base64 text.

    Parameters:
        picklelib: Dotted name of a module with `dumps` and `loads`.
        picklelib_version: Its version; None is the one installed. Reading with another one warns.
    """

    type = "pickle"
    picklelib: str = "cloudpickle"
    picklelib_version: str | None = None

    def validate(self) -> None:
        # The default is a dependency; not importing it here keeps flows that persist nothing quick to start.
        if self.picklelib != "cloudpickle":
            _import_library(self.picklelib, "picklelib", ("dumps", "loads"))

    def dumps(self, obj: Any) -> bytes:
        library = self._library()
        try:
            blob: bytes = library.dumps(obj)
        except Exception as error:
            _raise_unserializable(obj, error, self.type, library.dumps)
        return base64.b64encode(blob)

    def loads(self, blob: bytes) -> Any:
        library = self._library()
        installed = getattr(library, "__version__", None)
        if self.picklelib_version is not None and installed != self.picklelib_version:
            warnings.warn(
                f"This was pickled with {self.picklelib} {self.picklelib_version} and is read with {installed}. "
                "If that fails, or gives another value, install the former version.",
                RuntimeWarning,
                stacklevel=2,
            )
        return library.loads(base64.b64decode(blob))

    def to_dict(self) -> dict[str, Any]:
        version = self.picklelib_version or getattr(self._library(), "__version__", None)
        return {**super().to_dict(), "picklelib_version": version}

    def _library(self) -> Any:
        return _import_library(self.picklelib, "picklelib", ("dumps", "loads"))


class JSONSerializer(Serializer):
    """JSON. What JSON does not know is written with its class path, and made again from it.

    Parameters:
        jsonlib: Dotted name of a module with `dumps` and `loads`, such as "orjson".
        object_encoder: Dotted name of a function that turns an object JSON does not know into one that it does. The
            default one keeps every value as it is (tuples, keys that are no text); None refuses such objects.
        object_decoder: Dotted name of a function that is given each JSON object and returns what stands for it; None
            leaves them as dictionaries.
        dumps_kwargs: More keywords for the module's `dumps`; "default" is not taken, use `object_encoder`.
        loads_kwargs: More keywords for its `loads`; "object_hook" is not taken, use `object_decoder`.
    """

    type = "json"
    jsonlib: str = "json"
    object_encoder: str | None = DEFAULT_ENCODER
    object_decoder: str | None = DEFAULT_DECODER
    dumps_kwargs: Mapping[str, Any] = {}
    loads_kwargs: Mapping[str, Any] = {}

    def validate(self) -> None:
        if self.jsonlib != "json":
            _import_library(self.jsonlib, "jsonlib", ("dumps", "loads"))
        for option, taken, instead in (
            ("dumps_kwargs", "default", "object_encoder"),
            ("loads_kwargs", "object_hook", "object_decoder"),
        ):
            if taken in getattr(self, option):
                raise ValueError(f"{option} must not hold {taken!r}; give the function's dotted name as {instead}.")
        for option in ("object_encoder", "object_decoder"):
            if getattr(self, option) not in (None, DEFAULT_ENCODER, DEFAULT_DECODER):
                _import_function(getattr(self, option), option)

    def dumps(self, obj: Any) -> bytes:
        try:
            return self._dumps(obj)
        except Exception as error:
            _raise_unserializable(obj, error, self.type, self._dumps)

    def _dumps(self, obj: Any) -> bytes:
        keywords = dict(self.dumps_kwargs)
        if self.object_encoder == DEFAULT_ENCODER:
            from core_engine.results.json_values import to_json_value

            obj = to_json_value(obj)
        elif self.object_encoder is not None:
            keywords["default"] = _import_function(self.object_encoder, "object_encoder")
        written = import_module(self.jsonlib).dumps(obj, **keywords)
        return written if isinstance(written, bytes) else written.encode()

    def loads(self, blob: bytes) -> Any:
        keywords = dict(self.loads_kwargs)
        if self.object_decoder not in (None, DEFAULT_DECODER):
            keywords["object_hook"] = _import_function(self.object_decoder, "object_decoder")
        value = import_module(self.jsonlib).loads(blob.decode(), **keywords)
        if self.object_decoder == DEFAULT_DECODER:
            from core_engine.results.json_values import from_json_value

            value = from_json_value(value)
        return value


class CompressedSerializer(Serializer):
    """Compresses what another serializer writes, as base64 text.

    Parameters:
        serializer: The other one: an instance, a type text, or what its ``to_dict`` gave.
        compressionlib: Dotted name of a module with `compress` and `decompress`: lzma, bz2, zlib...
    """

    type = "compressed"
    serializer: Serializer
    compressionlib: str = "lzma"

    def validate(self) -> None:
        given: object = self.serializer
        self.serializer = serializer_from_dict(given) if isinstance(given, Mapping) else resolve_serializer(given)
        if self.compressionlib != "lzma":
            self._library()

    def dumps(self, obj: Any) -> bytes:
        compressed: bytes = self._library().compress(self.serializer.dumps(obj))
        return base64.b64encode(compressed)

    def loads(self, blob: bytes) -> Any:
        return self.serializer.loads(self._library().decompress(base64.b64decode(blob)))

    def _library(self) -> Any:
        return _import_library(self.compressionlib, "compressionlib", ("compress", "decompress"))


class CompressedPickleSerializer(CompressedSerializer):
    """CompressedSerializer with a PickleSerializer where no other is given."""

    type = "compressed/pickle"
    serializer: Serializer = PickleSerializer()


class CompressedJSONSerializer(CompressedSerializer):
    """CompressedSerializer with a JSONSerializer where no other is given."""

    type = "compressed/json"
    serializer: Serializer = JSONSerializer()


def resolve_serializer(value: object) -> Serializer:
    """Returns the serializer that a ``result_serializer`` option means.

    Raises:
        TypeError: It is neither a type text nor a serializer.
        ValueError: No serializer of this type is known.
    """
    if isinstance(value, Serializer):
        return value
    if isinstance(value, str):
        return _class_of(value)()
    hint = " Make an instance of the class." if inspect.isclass(value) and issubclass(value, Serializer) else ""
    raise TypeError(
        f"result_serializer must be a type text ({', '.join(sorted(_by_type))}) or a Serializer, "
        f"not {type(value).__name__}: {value!r}.{hint}"
    )


def serializer_from_dict(described: Mapping[str, Any]) -> Serializer:
    """Returns the serializer that ``to_dict`` described.

    Raises:
        ValueError: Its type is not known here, or its options cannot be used.
    """
    options = dict(described)
    name = options.pop("type")
    path = options.pop("class", None)
    cls = _by_path(path) or _class_of(name)
    return cls(**options)


def encode_json_object(obj: Any) -> Any:
    """Returns an object that JSON does not know as one that it does, with its class path: the default encoder."""
    from core_engine.results.json_values import encode_object

    return encode_object(obj)


def decode_json_object(fields: dict[str, Any]) -> Any:
    """Makes the object again that `encode_json_object` was given: the default decoder."""
    from core_engine.results.json_values import decode_object

    return decode_object(fields)


def _class_of(name: str) -> type[Serializer]:
    try:
        return _by_type[name]
    except KeyError:
        raise ValueError(
            f"No serializer of type {name!r} is known; there are: {', '.join(sorted(_by_type))}. "
            "One of your own is known once the module that defines it is imported."
        ) from None


def _by_path(path: str | None) -> type[Serializer] | None:
    """Returns the class at a dotted path; None if it is not there: a script's own class may have another path here."""
    if path is None:
        return None
    from core_engine.results.json_values import find_class

    try:
        found = find_class(path)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if inspect.isclass(found) and issubclass(found, Serializer) else None


def _import_library(path: str, option: str, functions: tuple[str, ...]) -> Any:
    try:
        library = import_module(path)
    except ImportError as error:
        raise ValueError(
            f"{option} {path!r} cannot be imported ({error}). Install it, or name another module."
        ) from error
    lacking = [name for name in functions if not callable(getattr(library, name, None))]
    if lacking:
        raise ValueError(f"{option} {path!r} cannot be used: the module lacks {' and '.join(lacking)}.")
    return library


def _import_function(path: str | None, option: str) -> Callable[[Any], Any]:
    from core_engine.results.json_values import find_class

    try:
        function = find_class(str(path))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{option} {path!r} cannot be imported: {error}. It must be a function's dotted name."
        ) from error
    if not callable(function):
        raise ValueError(f"{option} {path!r} is no function but {type(function).__name__}.")
    return function  # type: ignore[no-any-return]  # callable() says nothing of arguments


def _raise_unserializable(obj: Any, error: Exception, serializer_type: str, dumps: Callable[[Any], object]) -> NoReturn:
    from core_engine.results.unpicklable import describe_type, find_unpicklable

    path, kind = find_unpicklable(obj, dumps) or ("value", type(obj))
    raise SerializationError(
        f"The value cannot be written by the serializer {serializer_type!r}, because of {path}, of type "
        f"{describe_type(kind)} ({type(error).__name__}: {error}). Return the value without it, choose another "
        "result_serializer, or set persist_result=False."
    ) from error


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
