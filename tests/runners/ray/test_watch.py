"""When a head that does not answer counts as gone."""

import logging
import threading
from types import SimpleNamespace

import pytest

from runners.ray import watch
from runners.ray.nodes import Nodes
from runners.ray.watch import Watch

SECONDS_OF_A_QUESTION = 5.0


class Head:
    """Answers, or is silent for some questions, each of which takes as long as a connection is tried for."""

    def __init__(self, silent_questions: int) -> None:
        self.now = 0.0
        self.silent_questions = silent_questions
        self.has_answered_again = threading.Event()

    def answer(self, host: str, port: int) -> None:
        if self.silent_questions:
            self.silent_questions -= 1
            self.now += SECONDS_OF_A_QUESTION
            raise TimeoutError("timed out")
        self.has_answered_again.set()


def watched(head: Head, monkeypatch: pytest.MonkeyPatch) -> tuple[Watch, list[str], threading.Event]:
    reasons: list[str] = []
    is_gone = threading.Event()
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(watch, "answers", head.answer)
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: head.now))
    monkeypatch.setattr(Nodes, "look", lambda nodes: False)
    logger = logging.getLogger("tests.ray")

    def gone(reason: str) -> None:
        reasons.append(reason)
        is_gone.set()

    return Watch(Nodes(logger), logger, "127.0.0.1:9", lambda: None, gone), reasons, is_gone


@pytest.mark.behaviour("D22")
def test_a_head_that_was_silent_for_ten_seconds_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(silent_questions=3)  # the last one may have begun just before the connection came back
    one, reasons, _ = watched(head, monkeypatch)
    one.start()
    assert head.has_answered_again.wait(20)
    one.stop()

    assert reasons == []


@pytest.mark.behaviour("D22")
def test_a_head_that_stays_silent_is_gone_and_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(silent_questions=1_000)
    one, reasons, is_gone = watched(head, monkeypatch)
    one.start()
    assert is_gone.wait(20)
    one.stop()

    assert reasons == ["its head at 127.0.0.1:9 does not answer (timed out)."]
    assert head.now == 25
