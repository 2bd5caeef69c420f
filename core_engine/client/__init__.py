"""The engine's, and the users', view of what is recorded.

- ``embedded``  the client of a process that works on the database itself
- ``later``     deployments and the runs that are created from them
- ``explanations``  why a run is where it is                              - ``waiting_texts``
- ``filters``   by what runs and log lines can be asked for
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient, get_client
    from core_engine.client.explanations import Explanation

__all__ = ["EmbeddedClient", "Explanation", "get_client"]


def __getattr__(name: str) -> Any:
    if name == "Explanation":
        from core_engine.client.explanations import Explanation

        return Explanation
    if name in __all__:
        from core_engine.client import embedded

        return getattr(embedded, name)
    from core_engine.vocabulary import absent

    raise absent(__name__, name)
