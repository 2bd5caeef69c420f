"""TEST: helpers for tests."""

import pickle
import warnings
from pathlib import Path

import anyio
import pytest

from core_engine import clock, flow, get_client, task
from core_engine.settings import get_current_settings, temporary_settings
from core_engine.testing import (
    assert_does_not_warn,
    assert_uses_result_serializer,
    assert_uses_result_storage,
    core_engine_test_harness,
    exceptions_equal,
    get_most_recent_flow_run,
    leaping_clock,
)
from core_engine.testing.conformance import TaskRunnerConformance

pytest_plugins = ["pytester"]


@flow(persist_result=True, result_serializer="json")
def gives(x: int) -> int:
    return x


def number_of_runs() -> int:
    async def count() -> int:
        async with get_client() as client:
            return len(await client.read_flow_runs())

    return anyio.run(count)


@pytest.mark.behaviour("TEST-1")
def test_the_harness_runs_flows_in_a_home_that_is_gone_afterwards():
    gives(1)

    with core_engine_test_harness() as home:
        assert get_current_settings().home == home
        assert number_of_runs() == 0
        assert gives(2) == 2
        assert number_of_runs() == 1
        assert home.exists()

    assert not home.exists()
    assert number_of_runs() == 1


@pytest.mark.behaviour("TEST-1")
def test_the_harness_leaves_no_trace_in_the_real_home(home: Path):
    with core_engine_test_harness():
        gives(1)

    assert not home.exists() or list(home.iterdir()) == []


@pytest.mark.behaviour("TEST-1")
def test_the_harness_restores_connection_settings_also_after_an_error():
    with temporary_settings({"API_URL": "http://elsewhere/api"}):
        before = get_current_settings()
        with pytest.raises(ZeroDivisionError), core_engine_test_harness():
            assert get_current_settings().api_url is None
            raise ZeroDivisionError
        assert get_current_settings() == before


@pytest.mark.behaviour("TEST-2")
def test_assert_does_not_warn_turns_a_warning_into_an_assertion_error():
    with pytest.raises(AssertionError, match="careful"), assert_does_not_warn():
        warnings.warn("careful", UserWarning, stacklevel=1)


@pytest.mark.behaviour("TEST-2")
def test_assert_does_not_warn_lets_the_rest_pass():
    with pytest.raises(ZeroDivisionError), assert_does_not_warn():
        raise ZeroDivisionError
    with pytest.warns(UserWarning, match="careful"), assert_does_not_warn(DeprecationWarning):
        warnings.warn("careful", UserWarning, stacklevel=1)


@pytest.mark.behaviour("TEST-3")
def test_exceptions_are_equal_by_type_and_arguments():
    assert exceptions_equal(ValueError(1, "a"), pickle.loads(pickle.dumps(ValueError(1, "a"))))
    assert not exceptions_equal(ValueError(1), ValueError(2))
    assert not exceptions_equal(ValueError(1), TypeError(1))
    assert not exceptions_equal(ValueError(1), None)
    assert exceptions_equal(None, None)


@pytest.mark.behaviour("TEST-4")
def test_a_runner_must_be_given_to_the_conformance_suite(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        from core_engine.testing.conformance import TaskRunnerConformance

        class TestForgotten(TaskRunnerConformance):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-k", "members_of_the_protocol", "-p", "no:cacheprovider")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*NotImplementedError*task_runner*"])


@pytest.mark.behaviour("TEST-4")
def test_a_runner_proves_itself_by_a_subclass_of_five_lines(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest
        from core_engine.testing.conformance import TaskRunnerConformance
        from runners.sequential import SequentialTaskRunner

        class TestMine(TaskRunnerConformance):
            @pytest.fixture
            def task_runner(self):
                return SequentialTaskRunner()
        """
    )
    result = pytester.runpytest_subprocess(
        "-k", "members_of_the_protocol", "--strict-markers", "-p", "no:cacheprovider"
    )

    result.assert_outcomes(passed=1)
    assert TaskRunnerConformance.__doc__


@pytest.mark.behaviour("TEST-5")
def test_the_most_recent_flow_run_is_found():
    assert anyio.run(get_most_recent_flow_run) is None
    gives(1)
    gives(2)

    assert anyio.run(get_most_recent_flow_run).parameters == {"x": 2}


@pytest.mark.behaviour("TEST-5")
def test_serializer_and_storage_of_a_state_can_be_asserted():
    state = gives(5, return_state=True)

    assert_uses_result_serializer(state, "json")
    assert_uses_result_storage(state, state.data.storage_id)
    with pytest.raises(AssertionError, match="json"):
        assert_uses_result_serializer(state, "pickle")
    with pytest.raises(AssertionError, match="another"):
        assert_uses_result_storage(state, "another")


@pytest.mark.behaviour("TEST-5")
def test_a_leaping_clock_does_not_wait_and_says_how_long_it_would_have():
    calls = []

    @task(retries=3, retry_delay_seconds=[10, 20, 40])
    def retried():
        calls.append(1)
        if len(calls) <= 3:
            raise ValueError("once more")
        return "done"

    @flow
    def parent():
        return retried()

    with leaping_clock() as leaping:
        before = leaping.now()
        assert parent() == "done"
        assert leaping.now() - before >= 70

    assert leaping.waited == pytest.approx(70, abs=1)
    assert len(calls) == 4


@pytest.mark.behaviour("TEST-5")
def test_a_leaping_clock_leaps_when_told_and_is_gone_afterwards():
    usual = clock.current

    with pytest.raises(ZeroDivisionError), leaping_clock() as leaping:
        before = clock.now()
        leaping.leap(3600)
        assert clock.now() - before >= 3600
        raise ZeroDivisionError

    assert clock.current is usual
