"""Finding flows in files and modules without running them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_engine.context import ObjectRegistry
from core_engine.exceptions import MissingFlowError, UnspecifiedFlowError
from core_engine.utilities.importing import is_main_module, is_script_module, load_script_as_module

if TYPE_CHECKING:
    from core_engine.flows import Flow


def load_flow_from_entrypoint(entrypoint: str) -> Flow[..., Any]:
    """Returns the flow at ``path/to/file.py:name`` or ``package.module:name``; see ``core_engine.flows``."""
    place, separator, name = entrypoint.rpartition(":")
    if not separator:
        raise MissingFlowError(
            f"{entrypoint!r} does not name a flow. Write path/to/file.py:flow or package.module:flow."
        )
    with ObjectRegistry(block_code_execution=True):
        module = load_script_as_module(place) if place.endswith(".py") else importlib.import_module(place)
    if not hasattr(module, name):
        found = [known for known, value in vars(module).items() if _is_flow(value)]
        hint = f" It defines: {', '.join(found)}." if found else ""
        raise MissingFlowError(f"There is no flow {name!r} in {place!r}.{hint}")
    flow = getattr(module, name)
    if not _is_flow(flow):
        raise MissingFlowError(f"{name!r} in {place!r} is a {type(flow).__name__}, not a flow. Decorate it with @flow.")
    return flow  # type: ignore[no-any-return]


def load_flows_from_script(path: str | Path) -> list[Flow[..., Any]]:
    """Returns all flows that a script defines, in the order of their definition."""
    with ObjectRegistry(block_code_execution=True) as registry:
        load_script_as_module(str(path))
    return list(registry.flows)


def load_flow_from_script(path: str | Path, flow_name: str | None = None) -> Flow[..., Any]:
    """Returns the flow of a script: the one named `flow_name`, or the only one."""
    flows = {flow.name: flow for flow in load_flows_from_script(path)}
    listed = ", ".join(repr(name) for name in flows)
    if not flows:
        raise MissingFlowError(f"The script {str(path)!r} defines no flow.")
    if flow_name is not None:
        if flow_name not in flows:
            raise MissingFlowError(
                f"The script {str(path)!r} defines no flow named {flow_name!r}. It defines: {listed}."
            )
        return flows[flow_name]
    if len(flows) > 1:
        raise UnspecifiedFlowError(f"The script {str(path)!r} defines several flows ({listed}). Name one of them.")
    return next(iter(flows.values()))


def entrypoint_of(flow: Flow[..., Any]) -> str | None:
    """Returns by which entrypoint another process finds a flow, None where it is in no module: inside a function, say.

    A flow in the script that was started is found by the script's path.
    """
    fn = getattr(flow.fn, "__func__", flow.fn)
    module = sys.modules.get(getattr(fn, "__module__", None) or "")
    name = getattr(fn, "__qualname__", "")
    if module is None or "<locals>" in name:
        return None
    if not _is_made_of(getattr(module, name, None), fn):
        name = next((known for known, value in list(vars(module).items()) if _is_made_of(value, fn)), "")
        if not name:
            return None
    if not is_script_module(module.__name__) and not is_main_module(module.__name__):
        return f"{module.__name__}:{name}"
    spec = getattr(module, "__spec__", None)
    if spec is not None and is_main_module(module.__name__):
        return f"{spec.name}:{name}"
    file = getattr(module, "__file__", None)
    return None if file is None else f"{Path(file).absolute()}:{name}"


def _is_made_of(value: object, fn: object) -> bool:
    return _is_flow(value) and getattr(value, "fn", None) is fn


def _is_flow(value: object) -> bool:
    from core_engine.flows import Flow

    return isinstance(value, Flow)
