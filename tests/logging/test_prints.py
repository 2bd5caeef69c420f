"""print() in runs that log their prints."""

import builtins
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from core_engine.logging import patch_print, should_log_prints
from core_engine.logging.handlers import APILogHandler
from core_engine.settings import temporary_settings
from tests.logging.conftest import RecordingSink, Runs


@pytest.mark.behaviour("LOG-PRINT-1")
def test_print_is_logged_at_info_and_does_not_reach_stdout(
    runs: Runs, sink: RecordingSink, api_handler: APILogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch_print(), runs.flow(log_prints=True) as flow_context:
        print("in the flow:", 1, 100, "%s", sep="-")
        with runs.task(flow_context.flow_run.id, log_prints=True):
            print()

    assert [(entry.name, entry.level, entry.message) for entry in sink.entries] == [
        ("core_engine.flow_runs", 20, "in the flow:-1-100-%s"),
        ("core_engine.task_runs", 20, ""),
    ]
    assert capsys.readouterr().out == ""


@pytest.mark.behaviour("LOG-PRINT-1")
def test_the_logged_line_points_at_the_users_print(
    runs: Runs, api_handler: APILogHandler, caplog: pytest.LogCaptureFixture
) -> None:
    with patch_print(), runs.flow(log_prints=True):
        print("here")

    assert caplog.records[0].pathname == __file__


@pytest.mark.behaviour("LOG-PRINT-2")
def test_prints_to_the_consoles_streams_are_logged_and_others_get_the_text(
    runs: Runs, sink: RecordingSink, api_handler: APILogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    other = io.StringIO()
    with patch_print(), runs.flow(log_prints=True):
        print("out", file=sys.stdout, flush=True)
        print("err", file=sys.stderr)
        print("a", "b", sep="+", end="!", file=other)

    assert sink.messages == ["out", "err"]
    assert other.getvalue() == "a+b!"
    assert capsys.readouterr() == ("", "")


@pytest.mark.behaviour("LOG-PRINT-3")
def test_without_a_word_of_its_own_a_run_does_as_the_flow_around_it_and_a_root_flow_as_the_setting_says() -> None:
    assert should_log_prints(None, enclosing=True)
    assert not should_log_prints(None, enclosing=False)
    assert not should_log_prints(None, enclosing=None)
    with temporary_settings({"LOGGING_LOG_PRINTS": True}):
        assert should_log_prints(None, enclosing=None)
        assert not should_log_prints(None, enclosing=False)


@pytest.mark.behaviour("LOG-PRINT-4")
def test_a_runs_own_word_wins_over_flow_and_setting() -> None:
    with temporary_settings({"LOGGING_LOG_PRINTS": True}):
        assert not should_log_prints(False, enclosing=True)
        assert not should_log_prints(False, enclosing=None)
    assert should_log_prints(True, enclosing=False)


@pytest.mark.behaviour("LOG-PRINT-4")
def test_in_a_task_that_does_not_log_prints_the_text_goes_to_stdout(
    runs: Runs, sink: RecordingSink, api_handler: APILogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch_print(), runs.flow(log_prints=True) as context, runs.task(context.flow_run.id, log_prints=False):
        print("text")

    assert not sink.entries
    assert capsys.readouterr().out == "text\n"


@pytest.mark.behaviour("LOG-PRINT-5")
def test_print_is_replaced_only_while_needed_and_prints_outside_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    original = builtins.print
    with patch_print():
        assert builtins.print is not original
        with patch_print():
            print("outside", end=".")
        assert builtins.print is not original
    assert builtins.print is original
    assert capsys.readouterr().out == "outside."


@pytest.mark.behaviour("LOG-PRINT-5")
def test_print_comes_back_when_the_last_of_overlapping_runs_is_over() -> None:
    original, barrier = builtins.print, Barrier(2)

    def leave_first() -> None:
        with patch_print():
            barrier.wait(10)  # both are inside
        barrier.wait(10)  # the first is out

    def leave_last() -> bool:
        with patch_print():
            barrier.wait(10)
            barrier.wait(10)
            return builtins.print is not original

    with ThreadPoolExecutor(2) as threads:
        first, last = threads.submit(leave_first), threads.submit(leave_last)
        first.result()
        assert last.result()
    assert builtins.print is original


@pytest.mark.behaviour("LOG-PRINT-5")
def test_somebody_elses_print_stays_and_never_calls_itself(
    runs: Runs, sink: RecordingSink, api_handler: APILogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        with patch_print():
            ours = builtins.print
            patch.setattr(builtins, "print", lambda *values, **options: ours("theirs:", *values, **options))
        print("after")
        with patch_print(), runs.flow(log_prints=True):
            print("in a run")
        with patch_print():
            print("outside")

    assert capsys.readouterr().out == "theirs: after\ntheirs: outside\n"
    assert sink.messages == ["in a run"]
