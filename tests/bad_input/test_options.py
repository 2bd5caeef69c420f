"""Options that are wrong: each is an error where it is given, which names the option, the value and what is right."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core_engine import flow, get_client, pause_flow_run, resume_flow_run, tags, task
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions, exponential_backoff
from runners.concurrent import ConcurrentTaskRunner
from runners.dask import DaskTaskRunner
from runners.ray import RayTaskRunner

# Options of both: a wrong value, and what the message says.
OF_BOTH = [
    ("name", 7, TypeError, "name.*must be a"),
    ("version", ["1"], TypeError, r"version must be a text, not \['1'\] \(list\)"),
    ("description", 7, TypeError, r"description must be a text, not 7 \(int\)"),
    ("retries", "many", TypeError, r"retries must be a whole number such as 3, not 'many' \(str\)"),
    ("retries", 2.5, TypeError, "retries must be a whole number"),
    ("retries", True, TypeError, "retries must be a whole number"),
    ("retries", -1, ValueError, "retries must be at least 0, not -1"),
    ("retry_delay_seconds", "10", TypeError, r"retry_delay_seconds must be a number of seconds.*not '10' \(str\)"),
    ("retry_delay_seconds", timedelta(minutes=1), TypeError, r"retry_delay_seconds.*Write 60\."),
    ("retry_delay_seconds", -2, ValueError, "retry_delay_seconds must be a number of seconds of 0 or more, not -2"),
    ("retry_delay_seconds", float("nan"), ValueError, "retry_delay_seconds.*not nan"),
    ("timeout_seconds", "soon", TypeError, r"timeout_seconds must be a number of seconds.*not 'soon'.*no limit"),
    ("timeout_seconds", -1, ValueError, "timeout_seconds.*0 or more, not -1.*no limit"),
    ("timeout_seconds", float("inf"), ValueError, "timeout_seconds.*not inf.*no limit"),
    ("persist_result", "yes", TypeError, r"persist_result must be True, False or None, not 'yes' \(str\)"),
    ("cache_result_in_memory", 0, TypeError, r"cache_result_in_memory must be True or False, not 0 \(int\)"),
    ("log_prints", "no", TypeError, "log_prints must be True, False or None"),
    ("result_storage", 7, TypeError, r"result_storage must be a directory.*not 7 \(int\)"),
    ("result_serializer", 7, TypeError, "result_serializer must be a type text.*not int: 7"),
    ("on_completion", len, TypeError, r"on_completion takes a list of functions.*Write on_completion=\["),
    ("on_failure", [7], TypeError, "on_failure takes a list of functions; it holds a int"),
]
OF_FLOWS = [
    ("name", "a/b", ValueError, "holds the character '/'"),
    ("flow_run_name", 7, TypeError, "flow_run_name must be a string or a function"),
    ("retry_delay_seconds", [1, 2], TypeError, r"retry_delay_seconds must be a number of seconds.*not \[1, 2\]"),
    ("task_runner", 7, TypeError, "task_runner must be a task runner, its class, or a registered name, not 7"),
    ("task_runner", int, TypeError, "task_runner must be a task runner, its class"),
    ("validate_parameters", "yes", TypeError, "validate_parameters must be True or False"),
    ("on_cancellation", [], ValueError, "on_cancellation is empty"),
    ("on_crashed", {"hook": 7}, TypeError, "on_crashed takes a list of functions; it holds a str"),
]
OF_TASKS = [
    ("tags", "daily", TypeError, r"tags takes a list of texts, not one text. Write tags=\['daily'\]"),
    ("tags", 7, TypeError, r"tags takes a list of texts, not 7 \(int\)"),
    ("tags", ["a", 7], TypeError, r"tags takes a list of texts; it holds 7 \(int\)"),
    ("task_run_name", 7, TypeError, "task_run_name must be a string or a function"),
    ("cache_key_fn", "key", TypeError, r"cache_key_fn must be a function, not 'key' \(str\)"),
    ("cache_expiration", 60, TypeError, r"cache_expiration must be a datetime.timedelta.*timedelta\(seconds=60\)"),
    ("retry_delay_seconds", [1, "2"], TypeError, r"retry_delay_seconds\[1\] must be a number of seconds.*not '2'"),
    ("retry_delay_seconds", [1, -2], ValueError, r"retry_delay_seconds\[1\].*not -2"),
    ("retry_delay_seconds", [1] * 51, ValueError, "51 retry delays are too many"),
    ("retry_delay_seconds", lambda retries: "ten", TypeError, r"retry_delay_seconds must return.*it gave 'ten'"),
    ("retry_jitter_factor", "half", TypeError, "retry_jitter_factor must be a number such as 0.5, not 'half'"),
    ("retry_jitter_factor", -1, ValueError, "retry_jitter_factor must be 0 or more, not -1"),
    ("result_storage_key", 7, TypeError, r"result_storage_key must be a text, not 7 \(int\)"),
    ("refresh_cache", 1, TypeError, "refresh_cache must be True, False or None"),
    ("map_options", {"window": 3}, TypeError, r"map_options must be a MapOptions\(...\), not \{'window': 3\}"),
    ("resources", "GPU", TypeError, "resources must be a mapping such as {'GPU': 1}"),
    ("resources", {"GPU": 0}, ValueError, "resource 'GPU' must be above 0"),
]


@task
def give(x: Any = 1) -> Any:
    return x


CASES = [(flow, *case) for case in OF_BOTH + OF_FLOWS] + [(task, *case) for case in OF_BOTH + OF_TASKS]


@pytest.mark.parametrize(("decorate", "option", "value", "kind", "message"), CASES)
def test_a_wrong_option_of_a_flow_or_task_is_refused(
    decorate: Any, option: str, value: Any, kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        decorate(**{option: value})(lambda: None)


# The with_options of tasks has no version.
@pytest.mark.parametrize(
    ("decorate", "option", "value", "kind", "message"), [case for case in CASES if case[:2] != (task, "version")]
)
def test_a_wrong_option_is_refused_by_with_options(
    decorate: Any, option: str, value: Any, kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        decorate(lambda: None).with_options(**{option: value})


@pytest.mark.parametrize("decorate", [flow, task])
def test_an_option_that_is_not_there_is_refused_with_the_one_that_is_like_it(decorate: Any):
    with pytest.raises(TypeError, match=r"has no option 'retry'\. Did you mean 'retries'\?"):
        decorate(retry=3)
    with pytest.raises(TypeError, match=r"has no option 'zzz'\. It has: .*retries"):
        decorate(zzz=3)


def test_every_option_is_checked():
    """Except what means anything: the value for drawings."""
    named = {option for option, *_ in OF_BOTH + OF_FLOWS + OF_TASKS}
    from core_engine import flows, tasks

    assert (flows._OPTIONS | tasks._OPTIONS) - named == {"viz_return_value"}


def test_values_of_related_types_are_taken():
    numpy = pytest.importorskip("numpy")
    made = task(
        version=2, retries=numpy.int64(2), retry_delay_seconds=(1, numpy.float32(0.5)), tags=("a",), timeout_seconds=0
    )(lambda: None)

    assert (made.version, made.retries, made.retry_delay_seconds) == ("2", 2, [1, 0.5])
    assert (made.tags, made.timeout_seconds) == ({"a"}, None)
    assert flow(result_storage=Path("results"), retries=0)(lambda: None).retries == 0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"batch_size": "all"}, TypeError, r"MapOptions.batch_size must be a whole number such as 3, not 'all'"),
        ({"batch_size": 0}, ValueError, "MapOptions.batch_size must be at least 1, not 0"),
        ({"window": 2.5}, TypeError, "MapOptions.window must be a whole number"),
        ({"max_failures": -1}, ValueError, "MapOptions.max_failures must be at least 0, not -1"),
        ({"on_failure": "stop"}, ValueError, "MapOptions.on_failure must be 'continue', 'drain' or 'cancel'"),
        ({"ordered": "yes"}, TypeError, "MapOptions.ordered must be True or False"),
    ],
)
def test_a_wrong_map_option_is_refused(options: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        MapOptions(**options)


@pytest.mark.parametrize("make", [ConcurrentTaskRunner, DaskTaskRunner, RayTaskRunner])
def test_a_wrong_number_for_a_runner_is_refused(make: type[BaseTaskRunner]):
    option, least = ("max_workers", 1) if make is ConcurrentTaskRunner else ("worker_loss_retries", 0)
    with pytest.raises(TypeError, match=rf"{option} must be a whole number such as 3, not '4' \(str\)"):
        make(**{option: "4"})
    with pytest.raises(ValueError, match=f"{option} must be at least {least}, not {least - 1}"):
        make(**{option: least - 1})


def test_a_backoff_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="backoff_factor must be a number of seconds"):
        exponential_backoff("2")  # type: ignore[arg-type]


def test_tags_that_are_no_texts_are_refused():
    with pytest.raises(TypeError, match=r"tags takes a list of texts; it holds 7 \(int\)"), tags(7):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("value", [7, "give-0"])
def test_what_is_to_be_waited_for_must_be_futures_or_states(value: Any):
    @flow
    def child() -> None:
        pass

    @flow
    def parent() -> None:
        for call in (give, give.submit, child, lambda **options: give.map([1], **options)):
            with pytest.raises(TypeError, match="wait_for takes a list of futures or states, not"):
                call(wait_for=value)
        with pytest.raises(TypeError, match="wait_for takes a list"):
            next(give.stream([1], wait_for=value))
        assert give(wait_for=give(return_state=True)) == 1

    parent()


@pytest.mark.parametrize("value", ["nightly", 7])
def test_an_id_that_is_none_is_refused(value: Any):
    for call in (pause_flow_run, lambda **options: resume_flow_run(options["flow_run_id"]), flow(lambda: 1).resume):
        with pytest.raises((TypeError, ValueError), match=r"flow_run_id must be a UUID.*(none|7)"):
            call(flow_run_id=value)


def test_wrong_options_of_a_pause_are_refused():
    @flow
    def parent() -> None:
        with pytest.raises(TypeError, match="reschedule must be True or False, not 'no'"):
            pause_flow_run(reschedule="no")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="key must be a text, not 7"):
            pause_flow_run(key=7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="timeout must be a number of seconds of at least 0, not 'soon'"):
            pause_flow_run(timeout="soon")  # type: ignore[arg-type]

    parent()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("", "f", "m:f"), ValueError, "The name of a deployment must not be empty"),
        ((7, "f", "m:f"), TypeError, "name must be a text, not 7"),
        (("n", "f", "m.py"), ValueError, r"'m.py' does not name a flow. Write path/to/file.py:flow"),
        (("n", "f", "m:f", ["x"]), TypeError, r"parameters must be a mapping.*not \['x'\]"),
        (("n", "f", "m:f", {"x": {1}}), ValueError, "parameter 'x' cannot be stored"),
    ],
)
def test_a_wrong_argument_of_a_deployment_is_refused(arguments: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        step(get_client().create_deployment(*arguments))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": ["x"]}, r"parameters must be a mapping.*not \['x'\]"),
        ({"state": "Scheduled"}, "state must be a State, not 'Scheduled'"),
        ({"name": 7}, "name must be a text, not 7"),
        ({"tags": "daily"}, "tags takes a list of texts, not one text"),
    ],
)
def test_a_wrong_argument_of_a_run_for_later_is_refused(options: Any, message: str):
    async def create() -> None:
        client = get_client()
        deployment = await client.create_deployment("nightly", "f", "m:f")
        await client.create_flow_run_from_deployment(deployment, **options)

    with pytest.raises(TypeError, match=message):
        asyncio.run(create())


@pytest.mark.parametrize(
    ("tag", "limit", "kind", "message"),
    [
        ("db", "few", TypeError, "concurrency_limit must be a whole number"),
        ("db", -1, ValueError, "concurrency_limit must be at least 0, not -1"),
        ("", 1, ValueError, "tag must not be empty"),
        (7, 1, TypeError, "tag must be a text, not 7"),
    ],
)
def test_a_wrong_concurrency_limit_is_refused(tag: Any, limit: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        step(get_client().create_concurrency_limit(tag, limit))
