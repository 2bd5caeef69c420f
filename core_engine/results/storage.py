"""Storages: where persisted results lie, by key.

A storage is a frozen value: a directory (``LocalStorage``, the common case, without fsspec) or anything that fsspec
reaches by URL (``FsspecStorage``). Errors of file systems become StorageError, or MissingResult where only the key is
unknown; messages name the path and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from core_engine.exceptions import MissingResult, StorageError
from core_engine.results.keys import check_key

ACCEPTED_STORAGES = (
    "a directory (a pathlib.Path, or a text beginning with '/', './', '../' or '~'), a URL that fsspec knows such as "
    "'s3://bucket/results', the name of a saved storage, or a LocalStorage or FsspecStorage"
)

# Storages that say more than their path, by path: a record read back names the path only. Any thread may add one; that
# is a single assignment, and the last one wins.
_remembered: dict[str, ResultStorage] = {}


class ResultStorage:
    """Base of storages. Those of a class of one's own are found only by the process that uses them.

    Attributes:
        base_path: Absolute directory, or URL without secrets.
        name: Name under which the storage is saved; None means that it is not.
    """

    __slots__ = ()

    base_path: str
    name: str | None

    @property
    def id(self) -> str:
        """32 hexadecimal digits: the same for the same path, in every process."""
        return id_of(self.base_path)

    def location(self, key: str) -> str:
        """Returns path or URL of what stands under `key`. Raises ValueError for a key that leaves the storage."""
        return f"{self.base_path.rstrip('/')}/{check_key(key)}"

    def read(self, key: str) -> bytes:
        """Returns what stands under `key`. Raises MissingResult where nothing does, StorageError on other trouble."""
        raise NotImplementedError

    def write(self, key: str, content: bytes) -> None:
        """Puts `content` under `key`, in place of what stood there. Raises StorageError where it cannot."""
        raise NotImplementedError

    def exists(self, key: str) -> bool:
        """Returns whether something stands under `key`. Raises StorageError where that cannot be learned."""
        raise NotImplementedError

    def delete(self, key: str) -> bool:
        """Removes what stands under `key`; returns whether anything did. Raises StorageError where it cannot."""
        raise NotImplementedError

    def save(self, name: str, overwrite: bool = False) -> ResultStorage:
        """Saves the storage under `name` in the home, options included; returns it with that name.

        Raises:
            ValueError: The name is not usable, or taken while `overwrite` is False.
        """
        from core_engine.results.saved import save_storage

        return save_storage(self, name, overwrite)

    @staticmethod
    def load(name: str) -> ResultStorage:
        """Returns the storage saved under `name`. Raises ValueError, listing the saved ones, if there is none."""
        from core_engine.results.saved import load_storage

        return load_storage(name)


@dataclass(slots=True, frozen=True)
class LocalStorage(ResultStorage):
    """A directory, made when the first result is written. A file appears whole or not at all.

    Parameters:
        base_path: The directory; made absolute, with ``~`` expanded.
    """

    base_path: str
    name: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_path", os.path.abspath(os.path.expanduser(self.base_path)))

    def read(self, key: str) -> bytes:
        path = self.location(key)
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            _raise_missing(path)
        except OSError as error:
            raise StorageError(f"The result {path} cannot be read: {error.strerror or error}.") from error

    def write(self, key: str, content: bytes) -> None:
        path = self.location(key)
        directory = os.path.dirname(path)
        temporary = f"{directory}/.{os.urandom(8).hex()}.tmp"
        try:
            try:
                _write_new(temporary, content)
            except FileNotFoundError:
                os.makedirs(directory, exist_ok=True)
                _write_new(temporary, content)
            os.replace(temporary, path)
        except OSError as error:
            _remove(temporary)
            raise StorageError(
                f"The result {key!r} cannot be written to the directory {directory}: {error.strerror or error}. "
                "Make it writable or make room there, set LOCAL_STORAGE_PATH to another directory, or choose a "
                "result_storage."
            ) from error
        except BaseException:
            # An interrupt of this thread leaves no litter.
            _remove(temporary)
            raise

    def exists(self, key: str) -> bool:
        return os.path.exists(self.location(key))

    def delete(self, key: str) -> bool:
        path = self.location(key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StorageError(f"The result {path} cannot be deleted: {error.strerror or error}.") from error
        return True


@dataclass(slots=True, frozen=True)
class FsspecStorage(ResultStorage):
    """Anything that fsspec reaches: object stores, file systems of clusters, memory.

    Parameters:
        base_path: URL, such as "s3://bucket/results" or "memory://results".
        options: Keywords for the file system, such as credentials. They are not shown, nor written into records:
            other processes find them if the storage is saved under a name, or in their environment.

    Raises:
        ValueError: The URL holds a password, which records would show.
    """

    base_path: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    name: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if any(_holds_password(url) for url in self.base_path.split("::")):
            raise ValueError(
                "The URL of a result storage holds a password, which would stand in every record. Give it as an option "
                "instead: FsspecStorage(url, options={'password': ...})."
            )
        object.__setattr__(self, "options", dict(self.options))

    def read(self, key: str) -> bytes:
        with self._reached("read", key) as (file_system, path):
            content: bytes = file_system.cat_file(path)
            return content

    def write(self, key: str, content: bytes) -> None:
        with self._reached("written", key) as (file_system, path):
            try:
                file_system.pipe_file(path, content)
            except FileNotFoundError:
                # Only file systems with real directories want them made.
                file_system.makedirs(path.rpartition("/")[0], exist_ok=True)
                file_system.pipe_file(path, content)

    def exists(self, key: str) -> bool:
        with self._reached("looked for", key) as (file_system, path):
            # Others may have written it since the listing was cached.
            file_system.invalidate_cache()
            return bool(file_system.exists(path))

    def delete(self, key: str) -> bool:
        if not self.exists(key):
            return False
        with self._reached("deleted", key) as (file_system, path):
            file_system.rm_file(path)
        return True

    @contextmanager
    def _reached(self, action: str, key: str) -> Iterator[tuple[Any, str]]:
        """Gives file system and path, and translates what fsspec and the libraries below it raise."""
        url = self.location(key)
        try:
            from fsspec.core import url_to_fs

            yield url_to_fs(url, **self.options)
        except FileNotFoundError as error:
            if action == "read":
                _raise_missing(url)
            raise StorageError(f"The result {url} cannot be {action}: there is no such place.") from error
        except ImportError as error:
            raise StorageError(f"The result {url} cannot be {action}, a package is missing: {error}") from error
        except Exception as error:
            raise StorageError(
                f"The result {url} cannot be {action}: {type(error).__name__}: {error}. Check that the storage is "
                "reachable from here and that its options are right."
            ) from error


def resolve_storage(value: object) -> ResultStorage:
    """Returns the storage that a ``result_storage`` option means.

    Raises:
        TypeError: It is nothing that can be a storage.
        ValueError: No storage is saved under this name.
    """
    if isinstance(value, ResultStorage):
        return value
    if isinstance(value, Path):
        # Some packages have paths that are URLs.
        return storage_at(str(value)) if "://" in str(value) else LocalStorage(str(value))
    if not isinstance(value, str):
        raise TypeError(f"result_storage must be {ACCEPTED_STORAGES}; not {type(value).__name__}: {value!r}.")
    if value.startswith(("/", "./", "../", "~")) or value in (".", ".."):
        return LocalStorage(value)
    if "://" in value or "::" in value:
        return storage_at(value)
    from core_engine.results.saved import load_storage

    return load_storage(value)


def storage_at(path: str) -> ResultStorage:
    """Returns the storage at an absolute directory or a URL, without options."""
    if path.startswith(("file:///", "local:///")):
        return LocalStorage(path.partition("://")[2])
    return LocalStorage(path) if path.startswith("/") else FsspecStorage(path)


def remember_storage(storage: ResultStorage) -> None:
    """Makes records that name the storage by its path find it in this process, with its options."""
    if type(storage) is not LocalStorage:
        _remembered[storage.base_path] = storage


def find_storage(path: str, name: str | None) -> ResultStorage:
    """Returns the storage that a record names, with its options where they are known here: used or saved before."""
    known = _remembered.get(path)
    if known is not None:
        return known
    if name is not None:
        from core_engine.results.saved import load_storage

        try:
            saved = load_storage(name)
        except ValueError:
            # Saved in another home only: the environment may hold what is needed.
            return storage_at(path)
        if saved.base_path == path:
            return saved
    return storage_at(path)


@lru_cache(maxsize=64)
def id_of(base_path: str) -> str:
    """Returns the id of the storage at a path: see ``ResultStorage.id``."""
    return sha256(base_path.encode()).hexdigest()[:32]


def _holds_password(url: str) -> bool:
    authority = url.partition("://")[2].partition("/")[0]
    return ":" in authority.rpartition("@")[0]


def _raise_missing(location: str) -> NoReturn:
    raise MissingResult(
        f"There is no result at {location}: it was deleted, or it was written where this process cannot see it. "
        "Use a result_storage that all processes share, or run again."
    )


def _write_new(path: str, content: bytes) -> None:
    with open(path, "xb", buffering=0) as file:
        rest = memoryview(content)
        # One write takes at most 2 GB.
        while rest:
            rest = rest[file.write(rest) :]


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it was never made, or the directory itself is what fails
