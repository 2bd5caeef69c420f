"""Where everything about runs is kept, and the one way by which it gets there.

- ``entries``: what the journal takes: immutable entries in the order in which things happened
- ``journal``: the queue and its writer thread: group commits, waiters, read-your-writes
- ``store``: what a store can do (protocol) and the small records it hands out
- ``sqlite``: the store on SQLite, made of the modules below
- ``schema``, ``connections``, ``statements``, ``opening``, ``migrations``: the database, its tables, how it is opened
- ``encoding``, ``folding``, ``writes``, ``flow_writes``, ``sql``: from entries to rows
- ``flow_reads``, ``groups``, ``task_reads``, ``history``, ``events``, ``log_reads``, ``cache_reads``: and back again
- ``limits``, ``requests``, ``recovery``, ``retention``: slots, inbox, crashed owners, deletes
- ``homes``, ``leases``: the folder, and who in it is alive
- ``embedded``: ``open_backend``: store, journal and lease of this process for a home
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_engine.backend.embedded import Backend, open_backend

__all__ = ["Backend", "open_backend"]


def __getattr__(name: str) -> Any:
    # Entries are imported by code that never opens a database; sqlite3 is not to be loaded for it.
    if name in __all__:
        from core_engine.backend import embedded

        return getattr(embedded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
