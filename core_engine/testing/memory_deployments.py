"""Runs created for later, in memory: deployments, and claims of flow runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from uuid import UUID

from core_engine.schemas.records import Deployment
from core_engine.testing.memory_records import Tables


class KeepsDeployments:
    """The part of a store in memory that is about runs created for later."""

    def _reading(self) -> AbstractContextManager[Tables]:
        raise NotImplementedError

    def _changing(self) -> AbstractContextManager[Tables]:
        raise NotImplementedError

    def write_deployment(self, deployment: Deployment) -> UUID:
        with self._changing() as tables:
            before = tables.deployments.get(deployment.name)
            if before is not None:
                deployment = replace(deployment, id=before.id, created=before.created)
            tables.deployments[deployment.name] = deployment
            return deployment.id

    def read_deployment(self, id: UUID) -> Deployment | None:
        with self._reading() as tables:
            return next((found for found in tables.deployments.values() if found.id == id), None)

    def read_deployments(self, name: str | None = None) -> list[Deployment]:
        with self._reading() as tables:
            return [found for known, found in sorted(tables.deployments.items()) if name is None or known == name]

    def claim_flow_run(self, id: UUID, owner: str, expected_owner: str | None) -> bool:
        with self._changing() as tables:
            flow = tables.flows.get(id)
            if flow is None or flow.columns["owner"] != expected_owner:
                return False
            flow.set("owner", owner)
            return True
