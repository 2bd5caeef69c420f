"""Messages of a block are handled once and in order, however they arrive."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from core_engine.remote.reporting import Beating, Pulse
from core_engine.remote.reports import Message, MessageOrder


def messages(count: int) -> list[Message]:
    return [Message(1, "attempt", n, n == count - 1, "worker", [("e", n)]) for n in range(count)]


@given(st.integers(1, 12), st.data())
def test_repeated_and_reordered_messages_come_out_once_and_in_order(count: int, data: st.DataObject) -> None:
    sent = messages(count)
    repeats = data.draw(st.lists(st.sampled_from(sent), max_size=10))
    order = MessageOrder()
    taken = [one for message in data.draw(st.permutations([*sent, *repeats])) for one in order.accept(message)]

    assert taken == sent
    assert order.is_complete
    assert order.missing() == []


@given(st.integers(2, 12), st.data())
def test_a_lost_message_is_noticed_and_holds_back_those_behind_it(count: int, data: st.DataObject) -> None:
    sent = messages(count)
    lost = data.draw(st.integers(0, count - 2))
    order = MessageOrder()
    taken = [one for message in sent if message.number != lost for one in order.accept(message)]

    assert taken == sent[:lost]
    assert order.missing() == [lost]
    assert not order.is_complete
    assert order.skip_gaps() == sent[lost + 1 :]
    assert order.accept(sent[lost]) == []


def test_lines_that_come_after_the_end_are_taken_as_they_come() -> None:
    order = MessageOrder()
    late = Message(1, "attempt", -1, False, "worker", [])

    assert order.accept(late) == [late]


def test_a_message_travels_as_plain_values() -> None:
    message = messages(1)[0]

    assert Message.decode(message.encode()) == message


def test_trouble_with_one_block_does_not_stop_the_reports_of_others() -> None:
    class Failing(Beating):
        def beat(self, now: float) -> None:
            raise OSError("the road is closed")

    class Working(Beating):
        def __init__(self) -> None:
            self.beaten = threading.Semaphore(0)

        def beat(self, now: float) -> None:
            self.beaten.release()

    pulse, failing, working = Pulse(), Failing(), Working()
    pulse.add(failing)
    pulse.add(working)
    try:
        assert all(working.beaten.acquire(timeout=20) for _ in range(3))
    finally:
        pulse.remove(failing)
        pulse.remove(working)
