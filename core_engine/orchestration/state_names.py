"""The names that the rules give to states beside the capitalised types."""

from __future__ import annotations

AWAITING_RETRY = "AwaitingRetry"
CACHED = "Cached"
NOT_READY = "NotReady"
RERUNNING = "Rerunning"
RETRYING = "Retrying"
