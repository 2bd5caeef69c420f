"""Which options of the Dask runner go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_options(
    cluster: Any,
    address: str | None,
    cluster_class: Any,
    cluster_kwargs: Mapping[str, Any] | None,
    adapt_kwargs: Mapping[str, Any] | None,
    client_kwargs: Mapping[str, Any] | None,
) -> None:
    """Refuses options that contradict each other, or that the runner manages itself; parameters as DaskTaskRunner.

    Raises:
        ValueError: Says which.
    """
    made_here = {"cluster_class": cluster_class, "cluster_kwargs": cluster_kwargs}
    if address is not None:
        _exclude("address", {"cluster": cluster, **made_here, "adapt_kwargs": adapt_kwargs})
    if cluster is not None:
        _exclude("cluster", made_here)
    for name, options in (("client_kwargs", client_kwargs), ("cluster_kwargs", cluster_kwargs)):
        if options and "asynchronous" in options:
            raise ValueError(f"`asynchronous` in {name} is managed by the runner. Leave it out.")


def _exclude(given: str, others: Mapping[str, Any]) -> None:
    found = [name for name, value in others.items() if value is not None]
    if found:
        raise ValueError(
            f"`{given}` names a cluster that exists, so that {', '.join(found)} cannot be given as well. Choose one."
        )


def import_class(name: str) -> Any:
    """Returns what a dotted name such as "dask_jobqueue.SLURMCluster" stands for.

    Raises:
        ImportError: There is no such module.
        AttributeError: The module has no such name.
    """
    from importlib import import_module

    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)
