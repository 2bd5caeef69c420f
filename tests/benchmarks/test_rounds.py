"""Rounds: taken in turn, read back, and void when the store is not exact."""

import pytest

from benchmarks.contenders import flows
from benchmarks.contenders.base import Contender, Round
from benchmarks.contenders.by_hand import LoopWithRows
from benchmarks.contenders.engine import EngineFlow
from benchmarks.interleaving import interleave
from benchmarks.measuring import quantile, summarise
from benchmarks.processes import ContenderError, Spec, Worker, WorkerError, engine_spec
from benchmarks.rows import ratios, row_of
from benchmarks.verification import check_flow_run, check_round, check_rows

BY_HAND = Spec("by hand", "benchmarks.contenders.by_hand:LoopWithRows")
LOOP = Spec("loop", "benchmarks.contenders.bare:Loop", records=False)
THIS = "tests.benchmarks.test_rounds"


class Raising(Contender):
    def run(self, round: Round) -> None:
        raise ValueError(f"not {round.size}")


class Dying(Contender):
    def run(self, round: Round) -> None:
        raise SystemExit(3) if round.size == 0 else RuntimeError("not yet")

    def close(self, round: Round) -> None:
        import os

        os._exit(7)


@pytest.fixture
def recorded(tmp_path):
    """A flow of three tasks that was run and is still open, and the answer about it."""
    contender, round = EngineFlow("mapped", "sequential"), Round(3, tmp_path)
    contender.prepare(round)
    contender.run(round)
    contender.settle(round)
    yield contender.report(round)
    contender.close(round)


def test_a_store_that_holds_what_was_run_is_exact(recorded, tmp_path):
    assert check_flow_run(tmp_path, recorded, flows.completed(3)) == []


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        (flows.completed(4), "task runs by state: {'Completed': 3} instead of {'Completed': 4}"),
        (flows.completed(3, lines=1), "log lines of task runs: 0 instead of 1"),
        (flows.completed(3, results=3), "results: 0 instead of 3"),
        (flows.completed(3, value="other"), "value: 'done' instead of 'other'"),
        (flows.Expected({"Completed": 3}, 15, "done"), "state changes: 9 instead of 15"),
        (flows.Expected({"Completed": 3}, 9, "done", flow_state="Failed"), "is Completed() instead of Failed"),
    ],
)
def test_what_the_store_lacks_is_told(recorded, tmp_path, expected, problem):
    assert any(problem in found for found in check_flow_run(tmp_path, recorded, expected))


def test_large_flows_are_read_back_row_by_row(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.verification.EVERY_EVENT_UP_TO", 2)

    assert check_flow_run(tmp_path, recorded, flows.completed(3)) == []
    assert any(
        "runs with all their times: 3" in found for found in check_flow_run(tmp_path, recorded, flows.completed(4))
    )


def test_rows_that_were_written_by_hand_are_counted(tmp_path):
    contender, round = LoopWithRows(), Round(5, tmp_path)
    contender.prepare(round)
    contender.run(round)
    contender.close(round)

    assert check_rows(tmp_path, 5) == []
    assert check_rows(tmp_path, 6) == ["5 rows, 5 distinct, instead of 6"]


@pytest.mark.timeout(120)
def test_contenders_take_turns_and_the_order_turns_too(tmp_path):
    seen = []

    def check(spec, size, folder, answer):
        seen.append((spec.name, size))
        return check_round(spec, size, folder, answer)

    measured = interleave([BY_HAND, LOOP], 10, 2, tmp_path / "work", check, warm_up_size=4)

    assert seen == [("by hand", 4), ("loop", 4), ("loop", 10), ("by hand", 10), ("by hand", 10), ("loop", 10)]
    assert [len(contender.valid) for contender in measured.values()] == [2, 2]
    assert all(answer["durable"] >= answer["returned"] > 0 for answer in measured["by hand"].valid)
    assert measured["by hand"].valid[0]["disk_bytes"] > 0
    assert ratios(list(measured.values()), measured["loop"], lambda round: round["cpu"])["loop"].median == 1.0


@pytest.mark.timeout(120)
def test_a_round_that_is_not_exact_does_not_count(tmp_path):
    measured = interleave([BY_HAND], 10, 2, tmp_path / "work", lambda *round: ["a row is missing"])["by hand"]

    assert measured.valid == []
    assert measured.void == ["by hand: a row is missing"] * 2
    assert row_of(measured, 10, {"cpu_us": lambda round: round["cpu"]}).figures == {}


@pytest.mark.timeout(120)
def test_a_contender_that_raises_makes_its_round_void_and_says_why(tmp_path):
    spec = Spec("raising", f"{THIS}:Raising", records=False)

    assert interleave([spec], 10, 1, tmp_path / "work", check_round)["raising"].void == ["raising: ValueError: not 10"]


@pytest.mark.timeout(120)
def test_a_worker_that_dies_is_an_error_with_its_exit_code(tmp_path):
    with Worker(Spec("dying", f"{THIS}:Dying"), tmp_path) as worker:
        with pytest.raises(ContenderError, match="SystemExit: 3"):
            worker.ask(do="round", size=0, folder=str(tmp_path))
        with pytest.raises(WorkerError, match="exit code 7"):
            worker.ask(do="close", size=0, folder=str(tmp_path))


@pytest.mark.timeout(120)
def test_settings_of_the_caller_do_not_reach_the_contenders(tmp_path, monkeypatch):
    monkeypatch.setenv("CORE_ENGINE_LOGGING_LEVEL", "DEBUG")
    measured = interleave(
        [engine_spec("one by one", "one_by_one", "sequential")], 2, 1, tmp_path / "work", check_round
    )["one by one"]

    assert measured.void == []
    assert len(measured.valid[0]["times_ns"]) == 2


def test_quantiles_are_values_that_were_measured():
    assert quantile(range(1, 101), 0.5) == 51
    assert quantile(range(1, 101), 0.99) == 100
    assert quantile([7], 0.99) == 7


def test_a_figure_is_the_median_with_the_lowest_and_the_highest_round():
    summary = summarise([3.0, 1.0, 2.0])

    assert summary.to_json() == {"median": 2.0, "low": 1.0, "high": 3.0, "rounds": [3.0, 1.0, 2.0]}
    with pytest.raises(ValueError, match="no round"):
        summarise([])
