"""Deployments, and runs that are created from them for another process to execute."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine import clock, ids
from core_engine.backend.entries import FlowRunCreated, FlowRunUpdated
from core_engine.concurrency.waiting import run_blocking
from core_engine.option_checks import check_instance, check_tags, check_text, shown
from core_engine.orchestration.progress import FlowRunProgress, record_flow_state
from core_engine.schemas.records import Deployment, FlowRun
from core_engine.schemas.states import CANCELLED, SCHEDULED, State, StateDetails
from core_engine.utilities.names import generate_run_name
from core_engine.utilities.secret_names import is_secret_name

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient


async def cancel_without_process(client: EmbeddedClient, flow_run_id: UUID, task_run_id: UUID | None) -> bool:
    """Cancels a flow run that no process executes, or only a task run of it (None: all).

    Returns:
        False if a process has taken the flow run meanwhile (D2).
    """
    if not await run_blocking(client.store.claim_flow_run, flow_run_id, client.owner, None):
        return False
    try:
        if task_run_id is None:
            state = State(CANCELLED, message="The flow run was cancelled; no process executed it.")
            await client.propose(state, flow_run_id=flow_run_id)
        else:
            state = State(CANCELLED, message="The task run was cancelled; no process executed its flow run.")
            await client.propose(state, task_run_id=task_run_id)
    finally:
        position = client.journal.append(FlowRunUpdated(flow_run_id, {"owner": None}))
    await client.journal_committed(position)
    return True


def new_deployment(name: str, flow_name: str, entrypoint: str, parameters: dict[str, Any]) -> Deployment:
    """Makes a deployment; a path in its entrypoint becomes absolute, so that any process finds it."""
    for option, text in (("name", name), ("flow_name", flow_name), ("entrypoint", entrypoint)):
        if not check_text(text, option):
            raise ValueError(f"The {option} of a deployment must not be empty.")
    place, _, flow = entrypoint.rpartition(":")
    if not place or not flow:
        raise ValueError(f"{entrypoint!r} does not name a flow. Write path/to/file.py:flow or package.module:flow.")
    if place.endswith(".py"):
        entrypoint = f"{Path(place).absolute()}:{flow}"
    return Deployment(
        id=ids.new_id(),
        name=name,
        flow_name=flow_name,
        entrypoint=entrypoint,
        parameters=parameters_for_later(parameters),
        created=_now(),
    )


def new_scheduled_run(
    deployment: Deployment, parameters: dict[str, Any], state: State | None, name: str | None, tags: Iterable[str]
) -> FlowRunCreated:
    """Makes a flow run that no process owns yet."""
    record = FlowRun(
        id=ids.new_id(),
        name=check_text(name, "name") or generate_run_name(),
        flow_name=deployment.flow_name,
        parameters={**deployment.parameters, **parameters_for_later(parameters)},
        tags=check_tags(tags),
        created=_now(),
        deployment_id=deployment.id,
    )
    progress = FlowRunProgress.from_record(record)
    check_instance(state, "state", State, "a State")
    record_flow_state(progress, state or State(SCHEDULED, state_details=StateDetails(scheduled_time=_now())))
    return FlowRunCreated(progress.to_record(record))


def parameters_for_later(parameters: Any) -> dict[str, Any]:
    """Returns parameters as another process will read them.

    Raises:
        TypeError: They are no mapping from names.
        ValueError: One is a secret by its name, or holds one, which is never stored (D32); or is nothing that JSON can
            say.
    """
    if not isinstance(parameters, Mapping) or not all(isinstance(name, str) for name in parameters):
        raise TypeError(f"parameters must be a mapping such as {{'name': value}}, not {shown(parameters)}.")
    for name, value in parameters.items():
        secret = _secret_name_in(name, value)
        if secret is not None:
            raise ValueError(
                f"The parameter {secret!r} is a secret by its name, and secrets are not stored, so another process "
                "could not be given it. Have the flow read it from the environment."
            )
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The parameter {name!r} cannot be stored for another process: {error}. Give a value that JSON can say."
            ) from error
    return dict(json.loads(json.dumps(parameters)))


def _secret_name_in(name: str, value: Any) -> str | None:
    """Returns the name of a secret that a parameter is or holds; None if there is none."""
    if is_secret_name(name):
        return name
    members: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        members = ((str(key), member) for key, member in value.items())
    elif isinstance(value, list | tuple):
        members = (("", member) for member in value)
    return next((found for key, member in members if (found := _secret_name_in(key, member)) is not None), None)


def _now() -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)
