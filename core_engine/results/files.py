"""What stands in a stored file: JSON with the value's bytes, how they were made, and by which version of the library.

    {"serializer": {"type": "pickle", ...}, "data": "...", "core_engine_version": "0.1.0"}

So a file can be read by who knows nothing but its path. Bytes that are no UTF-8 stand as base64, and ``"encoding"``
says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core_engine.exceptions import SerializationError

if TYPE_CHECKING:
    from core_engine.results.storage import ResultStorage
    from core_engine.serializers import Serializer


def encode_file(value: Any, serializer: Serializer) -> bytes:
    """Returns the content of the file for a value. Raises SerializationError if the serializer cannot write it."""
    from core_engine import __version__

    try:
        blob = serializer.dumps(value)
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(
            f"The value of type {type(value).__name__} cannot be written by the serializer {serializer.type!r}: "
            f"{type(error).__name__}: {error}. Choose another result_serializer, or set persist_result=False."
        ) from error
    content = {"serializer": serializer.to_dict(), **_data(blob), "core_engine_version": __version__}
    return json.dumps(content).encode("ascii")


def _data(blob: bytes) -> dict[str, str]:
    try:
        return {"data": blob.decode("utf-8")}
    except UnicodeDecodeError:
        import base64

        return {"data": base64.b64encode(blob).decode("ascii"), "encoding": "base64"}


def decode_file(content: bytes, location: str) -> Any:
    """Returns the value in a file's content.

    Parameters:
        content: What the file holds.
        location: Where it lies, for messages.

    Raises:
        SerializationError: It is damaged, or made of classes or by a serializer that are not there.
    """
    from core_engine.serializers import serializer_from_dict

    try:
        fields = json.loads(content)
        blob = fields["data"].encode("utf-8")
        if fields.get("encoding") == "base64":
            import base64

            blob = base64.b64decode(blob)
        return serializer_from_dict(fields["serializer"]).loads(blob)
    except Exception as error:
        raise SerializationError(
            f"The result at {location} cannot be read back: {type(error).__name__}: {error}. The file may be "
            "damaged, or its classes may have moved or changed since it was written."
        ) from error


def read_value(storage: ResultStorage, key: str) -> Any:
    """Returns the value stored under `key`. Raises MissingResult, StorageError or SerializationError."""
    return decode_file(storage.read(key), storage.location(key))


def delete_result(record: Mapping[str, Any]) -> bool:
    """Deletes the file of a record that the store is about to forget.

    Parameters:
        record: What the record's ``to_json`` gave.

    Returns:
        Whether there was a file; False too for records without one.

    Raises:
        StorageError: The file is there and cannot be deleted, or its storage cannot be reached.
    """
    from core_engine.results.records import PersistedResult, record_from_json

    result = record_from_json(record)
    return isinstance(result, PersistedResult) and result.storage.delete(result.storage_key)
