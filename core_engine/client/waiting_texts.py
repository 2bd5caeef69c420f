"""Sentences that say why a task run waits. Pure: from what its flow run's process, or the store, knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text_of(what: str, reason: str, facts: Mapping[str, Any]) -> str:
    """Returns the sentence for a reason.

    Parameters:
        what: The run, as the sentence is to begin.
        reason, facts: As ``core_engine.engine.waits.why_it_waits`` gives them.
    """
    make = _SENTENCES.get(reason)
    return f"{what} has not started." if make is None else f"{what} {make(facts)}"


def _upstream(facts: Mapping[str, Any]) -> str:
    names = [repr(name) for name in facts["upstream"]]
    more = facts["count"] - len(names)
    shown = ", ".join(names) + (f" and {more:,} more" if more else "")
    upstreams = "its upstream" if facts["count"] == 1 else f"{facts['count']:,} upstreams"
    return f"waits for {upstreams}: {shown}."


def _slot(facts: Mapping[str, Any]) -> str:
    tags = " and ".join(repr(tag) for tag in facts["tags"])
    limits = "the concurrency limit of tag" if len(facts["tags"]) == 1 else "the concurrency limits of tags"
    return f"waits for a slot under {limits} {tags}; {_ahead(facts)}."


def _order(facts: Mapping[str, Any]) -> str:
    return f"waits for its turn, since the task runner runs one after the other; {_ahead(facts)}."


def _runner(facts: Mapping[str, Any]) -> str:
    name = f"the {facts['runner']} task runner"
    if not facts["executing"]:
        return f"was handed to {name}, where no worker executes anything of this flow run now; {_ahead(facts)}."
    running = f"{facts['executing']:,} task run{'s' if facts['executing'] > 1 else ''}"
    most = "" if facts.get("most") is None else f", of at most {facts['most']:,} at once"
    return f"waits for a free worker of {name}, which executes {running} of this flow run now{most}; {_ahead(facts)}."


def _window(facts: Mapping[str, Any]) -> str:
    return (
        f"waits for a place in the window of the {facts['runner']} task runner, which has {facts['executing']:,} async "
        f"task run{'' if facts['executing'] == 1 else 's'} of this flow run under way, of at most {facts['most']:,}; "
        f"{_ahead(facts)}."
    )


def _paused(facts: Mapping[str, Any]) -> str:
    until = "" if facts["until"] is None else f", at most until {facts['until']}"
    return f"waits, because its flow run is paused{until}."


def _retry(facts: Mapping[str, Any]) -> str:
    return f"failed and is tried again at {facts['due']}."


def _ahead(facts: Mapping[str, Any]) -> str:
    ahead = facts["ahead"]
    if not ahead:
        return "it is the next"
    return f"{ahead:,} {'is' if ahead == 1 else 'are'} ahead of it"


_SENTENCES = {
    "upstream": _upstream,
    "slot": _slot,
    "order": _order,
    "runner": _runner,
    "window": _window,
    "paused": _paused,
    "retry": _retry,
}
