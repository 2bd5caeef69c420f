"""What a factory makes of values, and what stands in the files that it writes."""

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

import core_engine
from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.exceptions import FailedRun, MissingResult, SerializationError, StorageError
from core_engine.results import (
    BaseResult,
    LiteralResult,
    LocalStorage,
    PersistedResult,
    ResultFactory,
    UnpersistedResult,
    delete_result,
    find_unpicklable,
    portable_exception,
    record_from_json,
)
from core_engine.results.keys import KeyTemplate
from core_engine.serializers import JSONSerializer, Serializer


def persisting(directory: Path, **fields: Any) -> ResultFactory:
    return ResultFactory.default_factory(persist_result=True, storage=LocalStorage(str(directory)), **fields)


def reread(record: BaseResult[Any]) -> BaseResult[Any]:
    """Return the record as the store gives it back."""
    stored = record.to_json()
    assert stored is not None
    return record_from_json(json.loads(json.dumps(stored)))


@pytest.mark.behaviour("RES-1")
@pytest.mark.parametrize("value", [1, None, True, "x", []])
def test_without_persistence_the_value_stays_in_memory_only(value: Any, home: Path) -> None:
    record = ResultFactory.default_factory().create_result(value)
    assert isinstance(record, UnpersistedResult)
    assert record.get() is value
    assert not home.exists()


@pytest.mark.behaviour("RES-3")
@pytest.mark.parametrize("value", [True, False, None])
def test_persisted_literals_need_neither_file_nor_serializer(value: Any, tmp_path: Path) -> None:
    record = persisting(tmp_path / "storage", cache_result_in_memory=False).create_result(value)
    assert isinstance(record, LiteralResult)
    assert record.has_cached_object()
    assert reread(record).get() is value
    assert not (tmp_path / "storage").exists()


@pytest.mark.behaviour("RES-3")
@pytest.mark.parametrize("value", [1, 0, 1.0, "", (), "None"])
def test_other_persisted_values_become_references(value: Any, tmp_path: Path) -> None:
    record = persisting(tmp_path).create_result(value)
    assert isinstance(record, PersistedResult)
    assert reread(record).get() == value


@pytest.mark.behaviour("RES-5")
def test_a_value_neither_persisted_nor_held_is_gone_except_for_none() -> None:
    factory = ResultFactory.default_factory(cache_result_in_memory=False)
    with pytest.raises(MissingResult, match="type int"):
        factory.create_result(1).get()
    assert factory.create_result(None).get() is None
    assert factory.create_result(None).to_json() is None


@pytest.mark.behaviour("RES-5", "RES-7")
def test_the_exception_that_ended_a_run_is_held_in_any_case() -> None:
    error = ValueError("x")
    assert ResultFactory.default_factory(cache_result_in_memory=False).create_result(error).get() is error


@pytest.mark.behaviour("RES-6")
def test_persisted_values_are_held_in_memory_unless_told_otherwise(tmp_path: Path) -> None:
    value = [1]
    assert persisting(tmp_path).create_result(value).get() is value
    record = persisting(tmp_path, cache_result_in_memory=False).create_result(value)
    assert not record.has_cached_object()
    assert record.get() == value
    assert record.get() is not value


@pytest.mark.behaviour("RES-8")
@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        (),
        set(),
        "",
        b"",
        {"type": "literal", "value": 1},
        {"type": "reference", "storage_key": "x"},
        {"data": None},
    ],
    ids=repr,
)
@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_values_survive_unchanged(value: Any, serializer: str, tmp_path: Path) -> None:
    record = persisting(tmp_path, serializer=serializer).create_result(value)
    restored = reread(record).get()
    assert restored == value
    assert type(restored) is type(value)
    assert ResultFactory.default_factory().create_result(value).get() is value


@pytest.mark.behaviour("RES-9")
@pytest.mark.parametrize("record", [LiteralResult(True), UnpersistedResult(4)])
def test_a_record_made_by_the_user_is_kept(record: BaseResult[Any], tmp_path: Path) -> None:
    assert persisting(tmp_path).wrap(record) is record
    assert persisting(tmp_path).create_result(record) is record
    assert isinstance(persisting(tmp_path).wrap(4), PersistedResult)


class Unhappy(Exception):
    """Can be pickled, but not made again: the usual slip."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class Holding(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


@pytest.mark.behaviour("RES-7")
@pytest.mark.parametrize("serializer", ["pickle", "json", "compressed/pickle"])
def test_exceptions_are_persisted_like_results(serializer: str, tmp_path: Path) -> None:
    error = KeyError("missing", 3)
    record = persisting(tmp_path, serializer=serializer).create_result(error)
    restored = reread(record).get()
    assert type(restored) is KeyError
    assert restored.args == ("missing", 3)
    assert record.get() is error


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.behaviour("RES-7")
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Unhappy(7, "broken"), "Unhappy: broken (7)"),
        (Holding(), "Holding: holds a lock"),
        (Speechless(), "Speechless: <its text cannot be shown: RuntimeError>"),
    ],
    ids=repr_of_type if (repr_of_type := lambda value: type(value).__name__) else None,
)
def test_an_exception_that_cannot_be_pickled_arrives_as_type_text_and_traceback(
    error: BaseException, text: str, tmp_path: Path
) -> None:
    restored = reread(persisting(tmp_path).create_result(raised(error))).get()
    if type(restored) is Unhappy:  # distributed, once imported, teaches pickle to make such exceptions again
        assert restored.args == error.args
        return
    assert type(restored) is FailedRun
    assert str(restored) == f"{__name__}.{text}"
    assert "raise error" in "".join(restored.__notes__)
    sent = portable_exception(error)
    assert pickle.loads(pickle.dumps(sent)).args == restored.args


@pytest.mark.behaviour("RES-7")
def test_an_unpersisted_exception_that_cannot_be_pickled_is_sent_as_text() -> None:
    sent = pickle.loads(pickle.dumps(UnpersistedResult(Holding()))).get()
    assert type(sent) is FailedRun
    assert str(sent) == f"{__name__}.Holding: holds a lock"
    assert type(pickle.loads(pickle.dumps(UnpersistedResult(KeyError("k")))).get()) is KeyError


def test_a_portable_exception_is_the_exception_itself_where_that_survives() -> None:
    error = ValueError(1)
    assert portable_exception(error) is error


def test_an_exception_that_the_chosen_serializer_cannot_write_is_pickled(tmp_path: Path) -> None:
    plain_json = JSONSerializer(object_encoder=None, object_decoder=None)
    record = persisting(tmp_path, serializer=plain_json).create_result(ValueError("x"))
    assert isinstance(record, PersistedResult)
    assert record.serializer_type == "pickle"
    assert reread(record).get().args == ("x",)


@pytest.mark.behaviour("RES-11")
def test_keys_are_unique_random_hexadecimal_by_default(tmp_path: Path) -> None:
    factory = persisting(tmp_path)
    keys = {factory.create_result(n).storage_key for n in range(20)}  # type: ignore[attr-defined]
    assert len(keys) == 20
    assert all(len(key) == 32 and int(key, 16) for key in keys)
    assert {path.name for path in tmp_path.iterdir()} == keys


@pytest.mark.behaviour("RES-11")
def test_a_key_is_a_fixed_text_or_a_template_over_parameters(tmp_path: Path) -> None:
    fixed = persisting(tmp_path, storage_key_fn=KeyTemplate("fixed.json"))
    assert fixed.create_result(1).storage_key == "fixed.json"  # type: ignore[attr-defined]
    template = persisting(tmp_path, storage_key_fn=KeyTemplate("by-{parameters[name]}/{parameters[n]:03}"))
    record = template.create_result(2, {"name": "ada", "n": 7})
    assert record.storage_key == "by-ada/007"  # type: ignore[attr-defined]
    assert (tmp_path / "by-ada" / "007").is_file()
    assert reread(record).get() == 2
    assert template.create_result(3, {"name": "ada", "n": 7}).get() == 3
    assert reread(record).get() == 3


@pytest.mark.behaviour("RES-11")
def test_a_template_takes_the_parameters_of_the_run_in_whose_context_it_is_filled(tmp_path: Path) -> None:
    factory = persisting(tmp_path, storage_key_fn=KeyTemplate("{parameters[n]}"))
    with FlowRunContext(parameters={"n": "flow"}):
        assert factory.create_result(1).storage_key == "flow"  # type: ignore[attr-defined]
        with TaskRunContext(task=None, task_run=None, parameters={"n": "task"}):
            assert factory.create_result(1).storage_key == "task"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="here: none"):
        factory.create_result(1)


@pytest.mark.behaviour("RES-11")
@pytest.mark.parametrize("template", ["{parameters[nam]}", "{parameters.x}", "{nothing}", "{", "{}"])
def test_a_template_that_cannot_be_filled_names_itself_and_what_there_is(template: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="result_storage_key .*here: name"):
        persisting(tmp_path, storage_key_fn=KeyTemplate(template)).create_result(1, {"name": "ada"})


@pytest.mark.behaviour("RES-11")
def test_a_key_function_must_return_a_text(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="int: 5"):
        persisting(tmp_path, storage_key_fn=lambda: 5).create_result(1)


@pytest.mark.parametrize("key", ["", "/etc/x", "../x", "a/../../x", "a/", "a\0b"])
def test_a_key_cannot_leave_its_storage(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="below the storage"):
        persisting(tmp_path, storage_key_fn=lambda: key).create_result(1)


@pytest.mark.behaviour("RES-12")
def test_the_stored_file_is_json_that_says_how_to_read_it(tmp_path: Path) -> None:
    record = persisting(tmp_path, serializer="json").create_result([1, 2])
    content = json.loads((tmp_path / record.storage_key).read_text())  # type: ignore[attr-defined]
    assert content["serializer"]["type"] == "json"
    assert json.loads(content["data"]) == [1, 2]
    assert content["core_engine_version"] == core_engine.__version__


class Bytes(Serializer):
    type = "test-bytes"

    def dumps(self, obj: Any) -> bytes:
        return bytes(obj)

    def loads(self, blob: bytes) -> Any:
        return blob


@pytest.mark.behaviour("RES-12", "RES-14")
@pytest.mark.parametrize("value", [b"\xff\x00\x80", b"text"])
def test_a_serializer_of_ones_own_may_give_any_bytes(value: bytes, tmp_path: Path) -> None:
    assert reread(persisting(tmp_path, serializer="test-bytes").create_result(value)).get() == value


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b'{"serializer": {"type": "nothing"}, "data": ""}', b"[]"])
def test_a_damaged_file_is_a_clear_error(content: bytes, tmp_path: Path) -> None:
    record = persisting(tmp_path).create_result(1)
    path = tmp_path / record.storage_key  # type: ignore[attr-defined]
    path.write_bytes(content)
    with pytest.raises(SerializationError, match=f"{path} cannot be read back"):
        reread(record).get()


def test_a_value_that_cannot_be_pickled_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(SerializationError, match=r"value\['lock'\], of type _thread.lock"):
        persisting(tmp_path).create_result({"lock": threading.Lock()})
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_a_serializer_of_ones_own_is_named_with_it(tmp_path: Path) -> None:
    with pytest.raises(SerializationError, match="'test-bytes': TypeError"):
        persisting(tmp_path, serializer="test-bytes").create_result(object())


@pytest.mark.behaviour("D31")
def test_deleting_a_result_removes_its_file_once(tmp_path: Path) -> None:
    stored = persisting(tmp_path).create_result(1).to_json()
    assert stored is not None
    assert delete_result(stored) is True
    assert list(tmp_path.iterdir()) == []
    assert delete_result(stored) is False
    assert delete_result({"type": "literal", "value": None}) is False


@pytest.mark.behaviour("RES-POLICY-8")
def test_a_factory_is_a_value_that_travels(tmp_path: Path) -> None:
    factory = persisting(tmp_path, serializer="compressed/json", storage_key_fn=KeyTemplate("{parameters[n]}"))
    again = pickle.loads(pickle.dumps(factory))
    assert again == factory
    assert reread(again.create_result(5, {"n": 1})).get() == 5
    with pytest.raises(AttributeError):
        factory.persist_result = False  # type: ignore[misc]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=f"{tmp_path}/file/results.*LOCAL_STORAGE_PATH"):
        persisting(tmp_path / "file" / "results").create_result(1)


def test_finding_what_cannot_be_pickled_is_public() -> None:
    assert find_unpicklable([threading.Lock()]) is not None
