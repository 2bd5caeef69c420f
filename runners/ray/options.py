"""What Ray is told of tasks: options in force where they are submitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

NONE: Mapping[str, Any] = MappingProxyType({})

_in_force: ContextVar[Mapping[str, Any]] = ContextVar("core_engine_ray_options", default=NONE)

# Options of `ray.remote` that the runner needs itself, and what to use instead.
_MANAGED = {
    "num_returns": "a task has one result; return a tuple",
    "retry_exceptions": "use @task(retries=...)",
    "name": "use @task(name=...)",
}


@contextmanager
def remote_options(**options: Any) -> Iterator[None]:
    """Has the tasks that are submitted inside run on Ray with these options; nested blocks merge, the inner one wins.

    ``max_retries`` says how often a task run is executed again whose worker died while it ran; the runner counts these
    itself, in place of its ``worker_loss_retries``. Other runners take no notice.

    Parameters:
        options: Options of ``ray.remote``, such as ``num_cpus``, ``num_gpus``, ``resources``, ``memory`` (bytes),
            ``max_calls``, ``max_retries``, ``runtime_env`` or ``scheduling_strategy``.

    Raises:
        ValueError: An option is not the user's to set; the message says what to use instead.
    """
    for name, instead in _MANAGED.items():
        if name in options:
            raise ValueError(f"`{name}` cannot be set with remote_options: {instead}.")
    retries = options.get("max_retries", 0)
    if not isinstance(retries, int) or retries < 0:
        raise ValueError(f"`max_retries` must be an integer of at least 0, not {retries!r}.")
    token = _in_force.set(MappingProxyType({**_in_force.get(), **options}))
    try:
        yield
    finally:
        _in_force.reset(token)


def options_in_force() -> Mapping[str, Any]:
    """Returns the merged options of the blocks around the caller."""
    return _in_force.get()


# What Ray has of its own, by the names that it gives them as resources.
_OWN = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def options_of(resources: Mapping[str, float]) -> dict[str, Any]:
    """Returns the options of ``ray.remote`` that give a task the resources it takes."""
    options: dict[str, Any] = {_OWN[name]: amount for name, amount in resources.items() if name in _OWN}
    custom = {name: amount for name, amount in resources.items() if name not in _OWN}
    if custom:
        options["resources"] = custom
    return options


def merged(options: Mapping[str, Any], above: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns options with others above them; custom resources are merged by name."""
    found = {**options, **above}
    if "resources" in options and "resources" in above:
        found["resources"] = {**options["resources"], **above["resources"]}
    return MappingProxyType(found)
