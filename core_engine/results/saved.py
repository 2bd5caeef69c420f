"""Storages saved under a name: one JSON file each in ``<home>/storages``, readable by its owner only."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_engine.exceptions import StorageError

if TYPE_CHECKING:
    from core_engine.results.storage import ResultStorage

# A name may have a kind before it, as in "s3/nightly".
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)?")


def save_storage(storage: ResultStorage, name: str, overwrite: bool = False) -> ResultStorage:
    """Saves `storage` under `name`, with its options; returns it with that name.

    Raises:
        TypeError: The storage is of a class of the user's own, or has options that JSON cannot say.
        ValueError: The name is not usable, or taken while `overwrite` is False.
        StorageError: The home cannot be written.
    """
    from core_engine.results.storage import FsspecStorage, LocalStorage

    if not isinstance(storage, (LocalStorage, FsspecStorage)):
        raise TypeError(f"Only a LocalStorage or FsspecStorage can be saved, not {type(storage).__name__}.")
    path = _path_of(name)
    content = json.dumps({"base_path": storage.base_path, "options": getattr(storage, "options", None)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_private(path, content, overwrite)
    except FileExistsError:
        raise ValueError(f"A result storage named {name!r} is saved already; overwrite=True replaces it.") from None
    except OSError as error:
        raise StorageError(
            f"The result storage {name!r} cannot be saved to {path}: {error.strerror or error}."
        ) from error
    return replace(storage, name=name)


def load_storage(name: str) -> ResultStorage:
    """Returns the storage saved under `name`.

    Raises:
        ValueError: There is none; the message lists those there are.
        StorageError: Its file cannot be read.
    """
    from core_engine.results.storage import FsspecStorage, LocalStorage

    path = _path_of(name)
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["options"] is None:
            return LocalStorage(saved["base_path"], name=name)
        return FsspecStorage(saved["base_path"], saved["options"], name)
    except FileNotFoundError:
        raise ValueError(
            f"No result storage is saved under the name {name!r}; there are: {', '.join(saved_names()) or 'none'}. "
            "A directory is written './results' or '/data/results', a URL 's3://bucket/results'."
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StorageError(
            f"The saved result storage {path} cannot be read: {type(error).__name__}: {error}."
        ) from error


def saved_names() -> list[str]:
    """Returns the names of the saved storages, in order."""
    directory = _directory()
    return sorted(str(path.relative_to(directory).with_suffix("")) for path in directory.glob("**/*.json"))


def _directory() -> Path:
    from core_engine.settings import get_current_settings

    return get_current_settings().home / "storages"


def _path_of(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be the name of a result storage: letters, digits, '-', '_', '.' and at most one '/'. "
            "A directory is written './results' or '/data/results', a URL 's3://bucket/results'."
        )
    return _directory() / f"{name}.json"


def _write_private(path: Path, content: str, overwrite: bool) -> None:
    """Writes a file that only its owner may read: options hold credentials."""
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        if overwrite:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
