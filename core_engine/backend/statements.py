"""Many rows in one statement.

``executemany`` lets go of the interpreter's lock twice for every row, and under a busy Python thread takes up to 5 ms
to get it back. One statement with many rows lets go of it once; it is also faster by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

Row = Sequence[Any]

# Rows to a statement, from large to small: a batch is cut into few statements, each of which stays prepared.
_SIZES = (128, 16, 4, 1)


class ManyRows:
    """A statement over a list of rows, prepared for several sizes of that list.

    Parameters:
        sql: The statement, with ``{rows}`` where the list of value tuples stands.
        columns: How many values a row has.
        row: What a row looks like; None means that all its values are bound.
    """

    def __init__(self, sql: str, columns: int, row: str | None = None) -> None:
        self._columns = columns
        row = row or f"({','.join('?' * columns)})"
        self._statements = tuple((size, sql.format(rows=",".join([row] * size))) for size in _SIZES)

    def execute(self, db: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Executes the statement over all `rows`, in order. Returns how many rows of the database it changed."""
        try:
            return self._execute(db, rows)
        except (UnicodeEncodeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
            # A value that the database cannot hold: a lone surrogate from a file name, say. Binding comes before
            # execution, and every statement here is idempotent, so the rows can be given again.
            return self._execute(db, [tuple(map(storable, row)) for row in rows])

    def _execute(self, db: sqlite3.Connection, rows: Sequence[Row]) -> int:
        changed = 0
        start = 0
        left = len(rows)
        for size, statement in self._statements:
            while left >= size:
                piece = rows[start : start + size] if size < len(rows) else rows
                values = piece[0] if size == 1 else list(chain.from_iterable(piece))
                changed += db.execute(statement, values).rowcount
                start += size
                left -= size
        return changed


def storable(value: Any) -> Any:
    """Returns `value`, or the nearest thing to it that SQLite can hold: text with escapes for what UTF-8 cannot say."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, int):
        return max(min(value, 2**63 - 1), -(2**63))
    if value is None or isinstance(value, float | bytes):
        return value
    return storable(str(value))
