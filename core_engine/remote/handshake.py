"""What must be the same on workers and in the flow's process, compared when a runner starts (D21)."""

from __future__ import annotations

import platform
from collections.abc import Mapping


def versions(library: str) -> dict[str, str]:
    """Returns the versions here of what travels, and of what carries it.

    Parameters:
        library: The distribution that the runner is built on, such as "distributed".
    """
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("core-engine", "cloudpickle", library):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Returns what differs, one text for each, such as "cloudpickle: 3.0.0 there, 3.1.1 here"."""
    names = dict.fromkeys([*ours, *theirs])
    return [
        f"{name}: {theirs.get(name, 'none')} there, {ours.get(name, 'none')} here"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]
