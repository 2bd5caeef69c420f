"""Storages: directories, fsspec's file systems, and the names under which they are saved."""

import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from core_engine.exceptions import MissingResult, StorageError
from core_engine.results import FsspecStorage, LocalStorage, ResultFactory, ResultStorage, record_from_json
from core_engine.results.saved import saved_names
from core_engine.results.storage import find_storage, resolve_storage


@pytest.fixture(params=["local", "fsspec-local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ResultStorage:
    kinds: dict[str, ResultStorage] = {
        "local": LocalStorage(str(tmp_path)),
        "fsspec-local": FsspecStorage(f"file://{tmp_path}/deep"),
        "memory": FsspecStorage(f"memory://{tmp_path}"),
    }
    return kinds[request.param]


def test_what_was_written_under_a_key_is_read_replaced_and_deleted(storage: ResultStorage) -> None:
    key = "folder/a"
    assert not storage.exists(key)
    storage.write(key, b"one")
    assert storage.exists(key)
    assert storage.read(key) == b"one"
    storage.write(key, b"")
    assert storage.read(key) == b""
    assert storage.delete(key) is True
    assert storage.delete(key) is False
    assert not storage.exists(key)


def test_a_missing_key_is_a_missing_result_that_names_the_place(storage: ResultStorage) -> None:
    with pytest.raises(MissingResult, match=f"{storage.base_path}/nothing"):
        storage.read("nothing")


def test_every_operation_refuses_a_key_outside_the_storage(storage: ResultStorage) -> None:
    for operation in (storage.read, storage.exists, storage.delete, lambda key: storage.write(key, b"")):
        with pytest.raises(ValueError, match="below the storage"):
            operation("../x")


def test_storages_are_values_that_travel_with_the_same_id(storage: ResultStorage) -> None:
    again = pickle.loads(pickle.dumps(storage))
    assert again == storage
    assert hash(again) == hash(storage)
    assert again.id == storage.id
    assert len(storage.id) == 32
    assert again.id != LocalStorage("/elsewhere").id


def test_a_file_appears_whole_and_nothing_else_does(tmp_path: Path) -> None:
    LocalStorage(str(tmp_path)).write("a", b"x" * 100_000)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_no_litter_and_names_the_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match=f"'a' cannot be written to the directory {tmp_path}: "):
        LocalStorage(str(tmp_path)).write("a", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory that nobody can write to")
def test_a_directory_that_cannot_be_written_is_named_with_what_to_do() -> None:
    with pytest.raises(StorageError, match=r"directory /proc/self/results.*LOCAL_STORAGE_PATH.*result_storage"):
        LocalStorage("/proc/self/results").write("a", b"x")


def test_local_trouble_other_than_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    subject = LocalStorage(str(tmp_path))
    with pytest.raises(StorageError, match="cannot be read"):
        subject.read("a")
    with pytest.raises(StorageError, match="cannot be deleted"):
        subject.delete("a")


def test_relative_directories_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somebody")
    assert resolve_storage("./results") == LocalStorage(f"{tmp_path}/results")
    assert resolve_storage("~/results") == LocalStorage("/somebody/results")
    assert resolve_storage(Path("results")) == LocalStorage(f"{tmp_path}/results")


@pytest.mark.behaviour("RES-POLICY-7")
def test_an_option_is_a_directory_a_url_or_an_instance(tmp_path: Path) -> None:
    assert resolve_storage(str(tmp_path)) == LocalStorage(str(tmp_path))
    assert resolve_storage(f"file://{tmp_path}") == LocalStorage(str(tmp_path))
    assert resolve_storage("memory://bucket/results") == FsspecStorage("memory://bucket/results")
    assert resolve_storage("simplecache::memory://bucket") == FsspecStorage("simplecache::memory://bucket")
    instance = FsspecStorage("memory://bucket", options={"asynchronous": False})
    assert resolve_storage(instance) is instance


@pytest.mark.behaviour("RES-POLICY-9")
@pytest.mark.parametrize("wrong", [3, None, b"/x", LocalStorage, object()])
def test_what_is_no_storage_is_a_type_error_that_lists_what_is_accepted(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"directory.*URL.*saved storage.*LocalStorage or FsspecStorage"):
        resolve_storage(wrong)


@pytest.mark.behaviour("RES-POLICY-7")
def test_a_saved_storage_is_found_by_its_name_with_its_options(home: Path) -> None:
    saved = FsspecStorage("memory://bucket", options={"key": "s3cret"}).save("lab/nightly")
    found = resolve_storage("lab/nightly")
    assert isinstance(found, FsspecStorage)
    assert found == saved
    assert (found.name, found.options) == ("lab/nightly", {"key": "s3cret"})
    assert ResultStorage.load("lab/nightly") == found
    LocalStorage("/data").save("here")
    assert resolve_storage("here").base_path == "/data"
    assert saved_names() == ["here", "lab/nightly"]
    assert stat.S_IMODE(os.stat(home / "storages" / "lab" / "nightly.json").st_mode) == 0o600


def test_a_saved_name_is_replaced_only_on_demand(home: Path) -> None:
    LocalStorage("/a").save("x")
    with pytest.raises(ValueError, match="'x' is saved already.*overwrite=True"):
        LocalStorage("/b").save("x")
    LocalStorage("/b").save("x", overwrite=True)
    assert ResultStorage.load("x").base_path == "/b"
    assert sorted(path.name for path in (home / "storages").iterdir()) == ["x.json"]


@pytest.mark.parametrize("name", ["nothing", "a/b", "spaced name", "../x", "a/b/c"])
def test_a_name_that_is_not_saved_is_an_error_that_says_how_paths_are_written(name: str) -> None:
    LocalStorage("/a").save("known")
    with pytest.raises(ValueError, match=r"'\./results' or '/data/results'"):
        ResultStorage.load(name)


def test_a_damaged_saved_storage_is_named(home: Path) -> None:
    LocalStorage("/a").save("x")
    (home / "storages" / "x.json").write_text("{")
    with pytest.raises(StorageError, match=r"x\.json cannot be read"):
        ResultStorage.load("x")


def test_a_record_names_its_saved_storage_and_finds_its_options_in_another_process(home: Path, tmp_path: Path) -> None:
    storage = FsspecStorage(f"file://{tmp_path}/out", options={"auto_mkdir": True}).save("lab")
    record = ResultFactory.default_factory(persist_result=True, storage=storage).create_result([7])
    code = (
        "import json, sys; from core_engine.results import record_from_json;"
        "r = record_from_json(json.loads(sys.argv[1])); print(r.get(), dict(r.storage.options))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(record.to_json())], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[7] {'auto_mkdir': True}"


def test_a_record_finds_options_that_its_process_has_used(tmp_path: Path) -> None:
    storage = FsspecStorage(f"memory://{tmp_path}", options={"skip_instance_cache": True})
    record = ResultFactory.default_factory(persist_result=True, storage=storage).create_result(7)
    stored = record.to_json()
    assert stored is not None
    again = record_from_json(stored)
    assert again.storage is storage  # type: ignore[attr-defined]
    assert again.get() == 7


def test_a_storage_saved_in_another_home_is_looked_for_at_its_path() -> None:
    assert find_storage("/data", "elsewhere") == LocalStorage("/data")


@pytest.mark.behaviour("D32")
def test_secrets_of_a_storage_are_neither_shown_nor_recorded(tmp_path: Path) -> None:
    storage = FsspecStorage(f"memory://{tmp_path}", options={"secret": "s3cret"})
    record = ResultFactory.default_factory(persist_result=True, storage=storage).create_result(1)
    assert "s3cret" not in repr(storage) + repr(record) + json.dumps(record.to_json())
    with pytest.raises(ValueError, match="holds a password") as caught:
        FsspecStorage("ftp://ada:s3cret@host/x")
    assert "s3cret" not in str(caught.value)


def test_an_unknown_protocol_or_a_missing_package_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match=r"nosuch://x/a cannot be read"):
        FsspecStorage("nosuch://x").read("a")


class Broken(fsspec.AbstractFileSystem):
    protocol = "broken"

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        raise ConnectionResetError("connection lost")


def test_what_a_file_system_raises_is_translated_and_kept_as_the_cause() -> None:
    fsspec.register_implementation("broken", Broken, clobber=True)
    with pytest.raises(
        StorageError, match=r"broken://x/a cannot be written: ConnectionResetError: connection lost"
    ) as caught:
        FsspecStorage("broken://x").write("a", b"")
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_the_local_storage_does_not_load_fsspec(tmp_path: Path) -> None:
    code = (
        "import sys; from core_engine.results import LocalStorage; s = LocalStorage(sys.argv[1]);"
        "s.write('a', b'x'); assert s.read('a') == b'x'; print('fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
