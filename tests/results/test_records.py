"""Result records: what each kind keeps, says, and leaves behind when it is stored or sent."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

from core_engine.exceptions import MissingResult
from core_engine.results import (
    BaseResult,
    LiteralResult,
    LocalStorage,
    PersistedResult,
    ResultFactory,
    UnpersistedResult,
    record_from_json,
)
from core_engine.results.records import Gone


@pytest.fixture
def persisted(tmp_path: Path) -> PersistedResult[Any]:
    return make_persisted(tmp_path, [1, 2])


def make_persisted(directory: Path, value: object, **fields: Any) -> PersistedResult[Any]:
    factory = ResultFactory.default_factory(persist_result=True, storage=LocalStorage(str(directory)), **fields)
    record = factory.create_result(value)
    assert isinstance(record, PersistedResult)
    return record


@pytest.mark.behaviour("RES-1", "RES-10")
def test_an_unpersisted_record_holds_its_value_and_leaves_nothing_to_the_store() -> None:
    record = UnpersistedResult("value")
    assert record.get() == "value"
    assert record.has_cached_object()
    assert record.to_json() is None
    assert UnpersistedResult.stored is False


@pytest.mark.behaviour("RES-10")
def test_a_pickled_unpersisted_record_takes_its_value_along() -> None:
    assert pickle.loads(pickle.dumps(UnpersistedResult([1]))).get() == [1]


@pytest.mark.behaviour("RES-5")
def test_a_record_whose_value_is_gone_says_which_type_it_was_and_what_keeps_results() -> None:
    record: UnpersistedResult[Any] = pickle.loads(pickle.dumps(UnpersistedResult(Gone("int"))))
    assert not record.has_cached_object()
    with pytest.raises(MissingResult, match="type int.*persist_result=True"):
        record.get()
    assert record.description == "int, not kept"


@pytest.mark.behaviour("RES-3", "RES-10")
@pytest.mark.parametrize("value", [True, False, None])
def test_a_literal_record_keeps_its_value_in_the_record(value: bool | None) -> None:
    record = LiteralResult(value)
    assert record.to_json() == {"type": "literal", "value": value}
    again = record_from_json(record.to_json())
    assert again == record
    assert again.get() is value
    assert LiteralResult.stored is True


@pytest.mark.behaviour("RES-4")
@pytest.mark.parametrize("value", [1, 0, "x", 1.0, []])
def test_a_literal_of_another_type_is_a_type_error_that_names_the_type(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        LiteralResult(value)


@pytest.mark.behaviour("RES-4")
def test_a_literal_none_is_not_the_same_as_no_result() -> None:
    assert LiteralResult(None).to_json() is not None
    assert LiteralResult(None).has_cached_object()
    assert LiteralResult(None) != LiteralResult(False)
    assert len({LiteralResult(None), LiteralResult(False), LiteralResult(None)}) == 2


@pytest.mark.behaviour("RES-3")
def test_a_reference_record_names_serializer_storage_and_key(persisted: PersistedResult[Any], tmp_path: Path) -> None:
    assert persisted.serializer_type == "pickle"
    assert persisted.storage_path == str(tmp_path)
    assert persisted.storage_id == LocalStorage(str(tmp_path)).id
    assert (tmp_path / persisted.storage_key).is_file()
    assert persisted.exists()


@pytest.mark.behaviour("RES-2", "RES-6")
def test_a_reference_record_read_back_gives_the_value_and_holds_it_from_then_on(
    persisted: PersistedResult[Any], tmp_path: Path
) -> None:
    again = record_from_json(persisted.to_json())
    assert again == persisted
    assert hash(again) == hash(persisted)
    assert not again.has_cached_object()
    assert again.get() == [1, 2]
    assert again.has_cached_object()
    (tmp_path / persisted.storage_key).unlink()
    assert again.get() == [1, 2]
    assert not persisted.exists()


@pytest.mark.behaviour("RES-6")
def test_a_reference_record_that_holds_nothing_in_memory_reads_the_storage_each_time(tmp_path: Path) -> None:
    record = make_persisted(tmp_path, [1, 2], cache_result_in_memory=False)
    for subject in (record, pickle.loads(pickle.dumps(record))):
        assert not subject.has_cached_object()
        assert subject.get() == [1, 2]
        assert subject.get() is not subject.get()
        assert not subject.has_cached_object()
    (tmp_path / record.storage_key).unlink()
    with pytest.raises(MissingResult, match=record.storage_key):
        record.get()


@pytest.mark.behaviour("RES-6")
def test_a_pickled_reference_record_leaves_the_value_in_the_storage(persisted: PersistedResult[Any]) -> None:
    assert persisted.has_cached_object()
    again = pickle.loads(pickle.dumps(persisted))
    assert not again.has_cached_object()
    assert again.get() == [1, 2]
    assert again.has_cached_object()


@pytest.mark.behaviour("RES-10")
def test_get_works_in_sync_and_async_code(tmp_path: Path) -> None:
    persisted = make_persisted(tmp_path, 5)
    unread = record_from_json(persisted.to_json())
    records: list[tuple[BaseResult[Any], Any]] = [
        (UnpersistedResult(1), 1),
        (LiteralResult(True), True),
        (persisted, 5),
        (unread, 5),
    ]

    async def get_all() -> list[Any]:
        return [await record.get() for record, _ in records]

    expected = [value for _, value in records]
    assert asyncio.run(get_all()) == expected
    assert [record.get() for record, _ in records] == expected


@pytest.mark.behaviour("RES-13")
def test_records_describe_type_and_place_of_the_value(persisted: PersistedResult[Any], tmp_path: Path) -> None:
    records = [UnpersistedResult(Path("x")), LiteralResult(None), persisted]
    assert {record.artifact_type for record in records} == {"result"}
    assert [record.description for record in records] == [
        f"{Path.__module__}.{type(Path('x')).__qualname__}, in memory only",
        "NoneType, the literal None",
        f"list, persisted at {tmp_path}/{persisted.storage_key}",
    ]
    assert [record.artifact_description for record in records] == [record.description for record in records]
    assert repr(LiteralResult(None)) == "LiteralResult(NoneType, the literal None)"


@pytest.mark.parametrize("record", [{}, {"type": "other"}])
def test_what_is_no_record_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'literal' or 'reference'"):
        record_from_json(record)
