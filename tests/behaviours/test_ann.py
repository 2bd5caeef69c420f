"""ANN: annotations at run time."""

from typing import Any

import pytest

from core_engine import allow_failure, flow, quote, task, unmapped
from core_engine.states import Cancelled, Crashed, Failed, Pending
from core_engine.task_runners import BaseTaskRunner


class CustomError(Exception):
    pass


@task
def give(x: Any = 1) -> Any:
    return x


@task
def kind(x: Any = None) -> str:
    return type(x).__name__


@task
def kinds(xs: Any) -> list[str]:
    return [type(x).__name__ for x in xs]


@task
def fail() -> None:
    raise CustomError("no")


@pytest.mark.behaviour("ANN-1", "RUN-12")
def test_an_allowed_failure_is_passed_as_its_exception(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    def parent():
        bad = fail.submit()
        return kind(allow_failure(bad)), kind.submit(allow_failure(bad.wait())).result()

    assert parent() == ("CustomError", "CustomError")


@pytest.mark.behaviour("ANN-1")
def test_in_an_allowed_collection_only_failed_elements_become_exceptions():
    @flow
    def parent():
        return kinds(allow_failure([give.submit(1), fail.submit(), "plain", give.submit(2.5)]))

    assert parent() == ["int", "CustomError", "str", "float"]


@pytest.mark.behaviour("ANN-2", "RUN-12")
def test_allow_failure_in_wait_for_lets_the_task_and_its_dependants_run(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    def parent():
        after = give.submit("ran", wait_for=[allow_failure(fail.submit())])
        return give.submit(after).result()

    assert parent() == "ran"


@pytest.mark.behaviour("ANN-2")
def test_wait_for_a_failure_that_is_not_allowed_keeps_the_task_from_running():
    @flow
    def parent():
        return give.submit("ran", wait_for=[fail.submit()]).wait().name

    assert parent() == "NotReady"


@pytest.mark.behaviour("ANN-3")
@pytest.mark.parametrize("ending", [Crashed, Cancelled, Pending])
def test_allow_failure_covers_failed_states_only(ending: Any):
    @flow
    def parent():
        return kind(allow_failure(ending()), return_state=True).name

    assert parent() == "NotReady"


@pytest.mark.behaviour("ANN-4")
def test_a_quoted_argument_is_handed_over_as_it_is():
    bad = Failed(message="only data")

    @flow
    def parent():
        return kind(quote(bad)), kind(quote(Pending())), kinds(quote([fail(return_state=True)]))

    assert parent() == ("State", "State", ["State"])


@pytest.mark.behaviour("ANN-5")
def test_the_function_never_sees_an_annotation():
    @flow
    def child(x):
        return x

    @flow
    def parent():
        annotated = [unmapped([1]), allow_failure([1]), quote([1]), allow_failure(give.submit([1]))]
        tasks = [give(value) for value in annotated] + [give.submit(value).result() for value in annotated]
        return tasks + [child(value) for value in annotated]

    assert parent() == [[1]] * 12


@pytest.mark.behaviour("ANN-6")
def test_annotations_are_values_that_can_be_unwrapped_and_rewrapped():
    x = ["value"]

    assert unmapped(x)[0] is x
    assert unmapped(x)[99] is x
    assert unmapped(x) == unmapped(["value"])
    assert unmapped(x) != allow_failure(x)
    assert allow_failure(x).unwrap() is x
    assert quote(x).unquote() is x
    assert allow_failure(x).rewrap(5) == allow_failure(5)


@pytest.mark.behaviour("ANN-7")
def test_nested_annotations_are_all_honoured():
    @flow
    def parent():
        bad = fail.submit()
        return kind(allow_failure(unmapped(bad))), kind(unmapped(allow_failure(bad)))

    assert parent() == ("CustomError", "CustomError")
