"""Log lines."""

from __future__ import annotations

from uuid import uuid4

from core_engine.backend.store import Store
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import log_line, recorded
from core_engine.testing.stores.suite import StoreSuite


class LogsSuite(StoreSuite):
    """Recording and reading log lines."""

    @holds("LOG-API-1")
    def test_a_line_is_read_back_as_it_was_logged_and_in_order(self, store: Store) -> None:
        run, tasks = recorded(store, count=2)
        lines = [
            log_line(run.id, "of the flow"),
            log_line(run.id, "of a task\nwith a second line", tasks.run_id(1), level=40),
            log_line(run.id, "elsewhere")._replace(worker="node-1", name="my.logger"),
        ]
        store.apply(lines)
        read = store.read_logs(run.id)
        assert [stored.entry for stored in read] == lines
        assert sorted(stored.cursor for stored in read) == [stored.cursor for stored in read]

    def test_lines_are_chosen_by_run_and_level_and_read_on_by_cursor(self, store: Store) -> None:
        run, tasks = recorded(store, count=2)
        other, _ = recorded(store)
        store.apply(
            [log_line(run.id, f"{index}", tasks.run_id(index % 2), level=10 * (index % 5)) for index in range(20)]
        )
        store.apply([log_line(other.id, "of another run")])

        def messages(**filters: object) -> list[str]:
            return [stored.entry.message for stored in store.read_logs(**filters)]  # type: ignore[arg-type]

        assert messages(flow_run_id=run.id) == [f"{index}" for index in range(20)]
        assert messages(task_run_id=tasks.run_id(1)) == [f"{index}" for index in range(1, 20, 2)]
        assert messages(flow_run_id=run.id, min_level=30) == [f"{index}" for index in range(20) if index % 5 >= 3]
        assert messages(flow_run_id=other.id, task_run_id=tasks.run_id(1)) == []
        assert len(messages()) == 21
        first = store.read_logs(run.id, limit=7)
        assert messages(flow_run_id=run.id, after=first[-1].cursor) == [f"{index}" for index in range(7, 20)]
        assert messages(flow_run_id=run.id, after=first[-1].cursor, limit=1) == ["7"]

    @holds("LOG-API-2")
    def test_lines_of_a_flow_run_that_the_store_does_not_hold_are_kept_under_its_id(self, store: Store) -> None:
        run, _ = recorded(store)
        stranger = uuid4()
        store.apply([log_line(stranger, "one"), log_line(run.id, "between"), log_line(stranger, "two", uuid4())])
        assert [stored.entry.message for stored in store.read_logs(stranger)] == ["one", "two"]
        assert [stored.entry.flow_run_id for stored in store.read_logs()] == [stranger, run.id, stranger]
        assert store.read_logs(task_run_id=uuid4()) == []

    def test_a_line_that_utf8_cannot_say_does_not_lose_its_neighbours(self, store: Store) -> None:
        run, _ = recorded(store)
        store.apply([log_line(run.id, message) for message in ("before", "file \udce9", "nul \x00 byte", "after")])
        messages = [stored.entry.message for stored in store.read_logs(run.id)]
        assert messages == ["before", "file \\udce9", "nul \x00 byte", "after"]
