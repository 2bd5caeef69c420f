"""Whether, where and how results are kept: options, the flow around, settings."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from core_engine.context import FlowRunContext
from core_engine.exceptions import MissingContextError
from core_engine.results import (
    FsspecStorage,
    LocalStorage,
    PersistedResult,
    ResultFactory,
    flow_factory,
    task_factory,
)
from core_engine.serializers import JSONSerializer, PickleSerializer
from core_engine.settings import get_current_settings, temporary_settings


@dataclass(frozen=True)
class Options:
    """What the policy reads of a flow or a task."""

    persist_result: bool | None = None
    result_storage: Any = None
    result_serializer: Any = None
    cache_result_in_memory: bool = True
    retries: int | None = 0
    cache_key_fn: Any = None
    result_storage_key: Any = None


def around(flow: Options | None = None) -> FlowRunContext:
    """Return the context of a run of `flow`."""
    flow = flow or Options()
    return FlowRunContext(flow=flow, result_factory=flow_factory(flow))


@pytest.mark.behaviour("RES-POLICY-1")
@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (Options(), None),
        (Options(persist_result=True), True),
        (Options(persist_result=False), False),
        (Options(cache_result_in_memory=False), True),
        (Options(persist_result=False, cache_result_in_memory=False), False),
        (Options(retries=3), None),
    ],
)
def test_persistence_of_a_root_flow(flow: Options, expected: bool | None, default: bool) -> None:
    with temporary_settings({"RESULTS_PERSIST_BY_DEFAULT": default}):
        assert flow_factory(flow).persist_result is (default if expected is None else expected)


@pytest.mark.behaviour("RES-POLICY-2", "RES-POLICY-4", "FLOW-RETRY-10")
@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(
    ("parent", "child", "expected"),
    [
        (Options(), Options(), None),
        (Options(persist_result=True), Options(), None),
        (Options(persist_result=False), Options(), None),
        (Options(retries=1), Options(), True),
        (Options(retries=1, persist_result=False), Options(), True),
        (Options(retries=1), Options(persist_result=False), False),
        (Options(), Options(persist_result=True), True),
        (Options(), Options(cache_result_in_memory=False), True),
        (Options(), Options(retries=1), None),
    ],
)
def test_persistence_of_a_subflow(parent: Options, child: Options, expected: bool | None, default: bool) -> None:
    with temporary_settings({"RESULTS_PERSIST_BY_DEFAULT": default}):
        factory = flow_factory(child, around(parent))
    assert factory.persist_result is (default if expected is None else expected)


@pytest.mark.behaviour("RES-POLICY-3", "RES-POLICY-4", "CACHE-9", "FLOW-RETRY-10")
@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(
    ("flow", "task", "expected"),
    [
        (Options(), Options(), None),
        (Options(persist_result=True), Options(), None),
        (Options(persist_result=False), Options(), None),
        (Options(retries=1), Options(), True),
        (Options(retries=1), Options(persist_result=False), False),
        (Options(), Options(cache_key_fn=lambda *_: "k"), True),
        (Options(), Options(cache_key_fn=lambda *_: "k", persist_result=False), False),
        (Options(), Options(cache_result_in_memory=False), True),
        (Options(), Options(persist_result=True), True),
        (Options(), Options(retries=2), None),
    ],
)
def test_persistence_of_a_task(flow: Options, task: Options, expected: bool | None, default: bool) -> None:
    with temporary_settings({"RESULTS_PERSIST_BY_DEFAULT": default}):
        factory = task_factory(task, around(flow))
    assert factory.persist_result is (default if expected is None else expected)


@pytest.mark.behaviour("RES-POLICY-5")
def test_serializer_and_storage_are_the_defaults_of_the_settings(home: Path, tmp_path: Path) -> None:
    factory = flow_factory(Options())
    assert factory.serializer == PickleSerializer()
    assert factory.storage == LocalStorage(str(home / "storage"))
    with temporary_settings({"RESULTS_DEFAULT_SERIALIZER": "json", "LOCAL_STORAGE_PATH": str(tmp_path)}):
        factory = flow_factory(Options())
    assert factory.serializer == JSONSerializer()
    assert factory.storage == LocalStorage(str(tmp_path))


@pytest.mark.behaviour("RES-POLICY-5")
@pytest.mark.parametrize("make", [flow_factory, task_factory])
def test_serializer_and_storage_are_the_own_ones_else_those_of_the_flow_around(make: Any) -> None:
    parent = around(Options(result_serializer="json", result_storage="memory://parent"))
    with temporary_settings({"RESULTS_DEFAULT_SERIALIZER": "compressed/pickle"}):
        inherited = make(Options(), parent)
        own = make(Options(result_serializer="pickle", result_storage="memory://child"), parent)
    assert (inherited.serializer, inherited.storage) == (JSONSerializer(), FsspecStorage("memory://parent"))
    assert (own.serializer, own.storage) == (PickleSerializer(), FsspecStorage("memory://child"))
    assert parent.result_factory == flow_factory(parent.flow)


@pytest.mark.behaviour("RES-POLICY-5")
def test_settings_can_be_given() -> None:
    with temporary_settings({"RESULTS_PERSIST_BY_DEFAULT": True}):
        settings = get_current_settings()
    assert flow_factory(Options(), settings=settings).persist_result
    assert ResultFactory.default_factory(settings).persist_result
    assert not ResultFactory.default_factory().persist_result


@pytest.mark.behaviour("RES-POLICY-6")
def test_holding_in_memory_is_each_ones_own_choice() -> None:
    parent = around(Options(cache_result_in_memory=False))
    assert parent.result_factory.cache_result_in_memory is False
    assert task_factory(Options(), parent).cache_result_in_memory is True
    assert flow_factory(Options(), parent).cache_result_in_memory is True
    assert task_factory(Options(cache_result_in_memory=False), around()).cache_result_in_memory is False


@pytest.mark.behaviour("RES-POLICY-7")
def test_storage_may_be_a_saved_name_and_nothing_is_made_before_it_is_used(home: Path, tmp_path: Path) -> None:
    LocalStorage(str(tmp_path / "results")).save("lab")
    factory = flow_factory(Options(result_storage="lab", persist_result=True))
    assert factory.storage == LocalStorage(str(tmp_path / "results"))
    flow_factory(Options())
    assert not (home / "storage").exists()
    assert not (tmp_path / "results").exists()
    record = factory.create_result(1)
    assert isinstance(record, PersistedResult)
    assert record.storage_name == "lab"
    assert (tmp_path / "results" / record.storage_key).exists()


@pytest.mark.behaviour("RES-POLICY-8")
def test_a_tasks_factory_needs_a_flow_around() -> None:
    with pytest.raises(MissingContextError):
        task_factory(Options())
    with pytest.raises(MissingContextError):
        ResultFactory.from_task(Options())


@pytest.mark.behaviour("RES-POLICY-8")
def test_factories_are_made_by_the_flow_that_runs_here() -> None:
    assert ResultFactory.from_flow(Options()).persist_result is False
    with around(Options(retries=1, result_serializer="json")):
        assert ResultFactory.from_task(Options()).persist_result
        assert ResultFactory.from_task(Options()).serializer == JSONSerializer()
        assert ResultFactory.from_flow(Options()).persist_result
    assert ResultFactory.from_flow(Options(persist_result=True)).persist_result


@pytest.mark.behaviour("RES-POLICY-8")
def test_a_default_factory_takes_any_field() -> None:
    factory = ResultFactory.default_factory(
        persist_result=True,
        cache_result_in_memory=False,
        serializer="json",
        storage="/data",
        storage_key_fn=lambda: "k",
    )
    assert (factory.persist_result, factory.cache_result_in_memory) == (True, False)
    assert (factory.serializer, factory.storage) == (JSONSerializer(), LocalStorage("/data"))
    assert factory.storage_key_fn() == "k"
    with pytest.raises(TypeError, match="colour"):
        ResultFactory.default_factory(colour="red")


@pytest.mark.behaviour("RES-POLICY-9")
@pytest.mark.parametrize("make", [flow_factory, task_factory])
def test_wrong_types_are_type_errors_that_list_what_is_accepted(make: Any) -> None:
    with pytest.raises(TypeError, match=r"result_storage must be .*URL"):
        make(Options(result_storage=3), around())
    with pytest.raises(TypeError, match=r"result_serializer must be .*pickle"):
        make(Options(result_serializer=3), around())
    with pytest.raises(TypeError, match="result_storage_key must be a text"):
        task_factory(Options(result_storage_key=3), around())


@pytest.mark.behaviour("RES-11")
def test_the_storage_key_of_a_task_is_a_text_a_template_or_a_function(tmp_path: Path) -> None:
    def key_of(**option: Any) -> str:
        task = replace(Options(persist_result=True, result_storage=tmp_path), **option)
        record = task_factory(task, around()).create_result(1, {"n": 4})
        assert isinstance(record, PersistedResult)
        return record.storage_key

    assert key_of(result_storage_key="fixed") == "fixed"
    assert key_of(result_storage_key="n-{parameters[n]}") == "n-4"
    assert key_of(result_storage_key=lambda: "made") == "made"
    assert len(key_of()) == 32
