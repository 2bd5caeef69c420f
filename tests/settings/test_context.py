"""Which settings are in force: contexts, threads, temporary changes."""

import asyncio
import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core_engine.exceptions import MissingContextError, SettingsError
from core_engine.settings import (
    Profile,
    Settings,
    SettingsContext,
    get_current_settings,
    get_settings_context,
    temporary_settings,
)
from core_engine.settings import sources as settings_sources


def make_context(**values: object) -> SettingsContext:
    return SettingsContext(Profile("test"), Settings.from_values(values))


@pytest.mark.behaviour("CTX-6")
def test_without_an_entered_context_the_one_of_the_process_is_in_force() -> None:
    assert SettingsContext.get() is get_settings_context()
    assert get_current_settings() is get_settings_context().settings


@pytest.mark.behaviour("CTX-4", "CTX-6")
def test_the_innermost_context_is_in_force_until_it_is_left(home: Path) -> None:
    before = SettingsContext.get()
    with make_context(home=home) as outer:
        with make_context(home=home, debug_mode=True) as inner:
            assert SettingsContext.get() is inner
            assert get_current_settings().debug_mode
        assert SettingsContext.get() is outer
    assert SettingsContext.get() is before


@pytest.mark.behaviour("CTX-6", "CTX-13")
def test_entered_settings_are_visible_in_new_threads_and_event_loops() -> None:
    async def in_loop() -> Settings:
        return get_current_settings()

    with temporary_settings({"task_default_retries": 7}) as settings, ThreadPoolExecutor(1) as threads:
        assert threads.submit(get_current_settings).result() is settings
        assert asyncio.run(in_loop()) is settings
        assert threads.submit(lambda: asyncio.run(in_loop())).result() is settings


@pytest.mark.behaviour("CTX-6")
def test_settings_entered_by_another_thread_are_seen_by_that_thread_alone() -> None:
    entered, may_leave = threading.Event(), threading.Event()

    def enter() -> int:
        with temporary_settings({"task_default_retries": 7}) as settings:
            entered.set()
            may_leave.wait(10)
            return settings.task_default_retries

    with ThreadPoolExecutor(2) as threads:
        future = threads.submit(enter)
        entered.wait(10)
        assert get_current_settings().task_default_retries == 0
        assert threads.submit(get_current_settings).result().task_default_retries == 0
        may_leave.set()
        assert future.result() == 7


@pytest.mark.behaviour("CTX-6")
def test_contexts_of_interleaved_coroutines_may_be_left_in_any_order() -> None:
    before = get_current_settings()

    async def enter(entered: asyncio.Event, may_leave: asyncio.Event, retries: int) -> None:
        with temporary_settings({"task_default_retries": retries}):
            entered.set()
            await may_leave.wait()
            assert get_current_settings().task_default_retries == retries

    async def interleave() -> None:
        events = [asyncio.Event() for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            group.create_task(enter(events[0], events[1], 1))
            await events[0].wait()
            group.create_task(enter(events[2], events[3], 2))
            await events[2].wait()
            events[1].set()
            await asyncio.sleep(0)
            events[3].set()

    asyncio.run(interleave())
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(get_current_settings).result() is before


@pytest.mark.behaviour("CTX-7")
def test_asking_for_the_settings_while_they_are_being_read_is_an_error(
    environment: pytest.MonkeyPatch,
) -> None:
    from core_engine.settings import context

    def read_environment() -> dict[str, str]:
        with pytest.raises(MissingContextError, match="settings"):
            get_settings_context()
        raise SettingsError("enough seen")

    environment.setattr(settings_sources, "read_environment", read_environment)
    environment.setattr(context, "_seen_by_all_threads", None)
    environment.setattr(context, "_of_process", None)
    with pytest.raises(SettingsError, match="enough seen"):
        get_settings_context()


@pytest.mark.behaviour("CTX-8")
def test_entering_makes_the_home_directory(home: Path) -> None:
    with make_context(home=home / "deep"):
        assert (home / "deep").is_dir()


@pytest.mark.behaviour("CTX-8")
def test_a_home_that_cannot_be_made_only_gives_a_warning(tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.touch()

    with pytest.warns(UserWarning, match="cannot be made") as caught, make_context(home=blocking / "home") as context:
        assert get_current_settings() is context.settings
    assert caught[0].filename == __file__


@pytest.mark.behaviour("CTX-5")
def test_a_context_is_entered_once_and_left_once(home: Path) -> None:
    context = make_context(home=home)
    with context, pytest.raises(RuntimeError, match="already entered"):
        context.__enter__()
    with pytest.raises(RuntimeError, match="Asymmetric"):
        context.__exit__(None, None, None)
    with context.copy() as other:
        assert other.settings is context.settings


@pytest.mark.parametrize("made", [lambda context: pickle.loads(pickle.dumps(context)), copy.copy, copy.deepcopy])
def test_a_pickled_or_copied_context_is_one_that_was_not_entered(home: Path, made: Any) -> None:
    with make_context(home=home) as context:
        other = made(context)

    assert (other.profile, other.settings) == (context.profile, context.settings)
    with other:
        assert get_current_settings() is other.settings


@pytest.mark.behaviour("CTX-3")
def test_a_settings_context_checks_its_fields_and_is_immutable() -> None:
    context = make_context()

    with pytest.raises(ValueError, match="Settings"):
        SettingsContext(Profile("test"), {"debug_mode": True})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Profile"):
        SettingsContext("test", context.settings)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown"):
        SettingsContext(profile=context.profile, settings=context.settings, unknown=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="immutable"):
        context.settings = context.settings


@pytest.mark.behaviour("CTX-9")
def test_temporary_settings_nest_and_restore_also_after_an_error() -> None:
    before, variables = get_current_settings(), dict(os.environ)

    def nest_and_fail() -> None:
        with temporary_settings({"TASK_DEFAULT_RETRIES": 1}) as outer:
            with temporary_settings({"flow_default_retries": 2}) as inner:
                assert get_current_settings() is inner
                assert (inner.task_default_retries, inner.flow_default_retries) == (1, 2)
                assert dict(os.environ) == variables
            assert get_current_settings() is outer
            raise KeyError

    with pytest.raises(KeyError):
        nest_and_fail()
    assert get_current_settings() is before


@pytest.mark.behaviour("CTX-10")
def test_temporary_settings_mark_only_what_they_set() -> None:
    before = get_current_settings().model_fields_set

    with temporary_settings({"task_default_retries": 1}) as settings:
        assert settings.model_fields_set == before | {"task_default_retries"}


@pytest.mark.behaviour("CTX-10")
def test_set_defaults_fills_only_what_nobody_set() -> None:
    with temporary_settings({"task_default_retries": 1}):
        with temporary_settings(set_defaults={"TASK_DEFAULT_RETRIES": 5, "FLOW_DEFAULT_RETRIES": 5}) as settings:
            assert (settings.task_default_retries, settings.flow_default_retries) == (1, 5)
        with temporary_settings({"flow_default_retries": 6}, {"flow_default_retries": 5}) as settings:
            assert settings.flow_default_retries == 6


@pytest.mark.behaviour("CTX-10")
def test_restore_defaults_brings_defaults_back() -> None:
    with temporary_settings({"debug_mode": True, "task_default_retries": 1}):
        with temporary_settings(restore_defaults=["DEBUG_MODE"]) as settings:
            assert not settings.debug_mode
            assert settings.logging_level == "INFO"
            assert settings.task_default_retries == 1
        with temporary_settings(set_defaults={"debug_mode": True}, restore_defaults=["debug_mode"]) as settings:
            assert settings.debug_mode
