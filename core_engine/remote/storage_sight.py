"""Whether a worker sees the result storage of the flow's process (D27): each reads what the other wrote there.

Asked once in each worker process, by the first block whose results are persisted.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from core_engine.exceptions import MissingResult
from core_engine.remote.commands import SHARED
from core_engine.remote.reports import STORAGE, Record

if TYPE_CHECKING:
    from core_engine.results.storage import ResultStorage

MOST_KNOWN = 128

# ``_lock`` guards the dictionary: whether the storage with a token is shared.
_lock = threading.Lock()
_known: OrderedDict[str, bool] = OrderedDict()


def sees_storage(storage: ResultStorage, token: str, ask: Callable[[Record], str | None]) -> bool:
    """Returns whether what is written to `storage` here is what the flow's process finds there, and the reverse.

    Parameters:
        storage: The storage, as the flow's process named it.
        token: Key of what the flow's process wrote, which is the key itself.
        ask: Puts a question to the flow's process; returns its answer, None if there was none.
    """
    with _lock:
        known = _known.get(token)
    if known is not None:
        return known
    ours, reason = f"{token}-{os.urandom(8).hex()}", ""
    try:
        if storage.read(token) != token.encode():
            reason = "what the flow's process wrote there has other content."
        else:
            storage.write(ours, ours.encode())
    except MissingResult:
        reason = "what the flow's process wrote there is not there."
    except Exception as error:  # a storage may be the user's own, and raise anything
        reason = str(error) or type(error).__name__
    answer = ask((STORAGE, token, ours, reason))
    if answer is None:
        return False  # the next block asks again
    with _lock:
        _known[token] = answer == SHARED
        while len(_known) > MOST_KNOWN:
            _known.popitem(last=False)
    return answer == SHARED
