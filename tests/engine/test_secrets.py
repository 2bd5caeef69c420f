"""Secret parameters are written nowhere: not in records, not in lines, and no other process is given them (D32)."""

import dataclasses
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from core_engine import flow, get_client, task
from core_engine.backend import open_backend
from core_engine.concurrency.waiting import step
from core_engine.exceptions import ParameterBindError
from core_engine.settings import temporary_settings

pytestmark = pytest.mark.behaviour("D32")

SECRET = "hunter2"


class Account(BaseModel):
    user: str = "me"
    password: str = SECRET


class Vault(BaseModel):
    key: SecretStr = SecretStr(SECRET)
    accounts: list[Account] = [Account()]


@dataclasses.dataclass
class Login:
    user: str = "me"
    api_token: str = SECRET
    since: datetime = datetime(2026, 1, 1, tzinfo=UTC)


MAKERS: dict[str, Callable[[], Any]] = {
    "secret-text": lambda: SecretStr(SECRET),
    "model": Account,
    "nested-models": Vault,
    "dataclass": Login,
    "mapping": lambda: {"database": {"user": "me", "db_password": SECRET}},
    "mapping-that-json-cannot-say": lambda: {"password": SECRET, "since": datetime.now(UTC)},
    "list": lambda: [Login(), {"token": SECRET}],
}
VALUES = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@VALUES
def test_a_secret_is_in_no_record_and_no_line(
    make: Callable[[], Any], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @task
    def uses(value: Any) -> None:
        if value is None:
            raise ValueError("nothing")

    @flow
    def parent(value: Any) -> str:
        uses(value)
        uses.submit(value).wait()
        return "done"

    with temporary_settings({"DEBUG_MODE": True}), caplog.at_level(logging.DEBUG, logger="core_engine"):
        assert parent(make()) == "done"

    open_backend().journal.flush()
    (run,) = step(get_client().read_flow_runs())
    assert "***" in str(run.parameters["value"])
    assert "Executing uses(" in caplog.text
    assert SECRET not in caplog.text
    written = [path for path in home.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


@VALUES
def test_a_resumed_run_is_given_its_secrets_again(make: Callable[[], Any]) -> None:
    fails = True

    @flow(validate_parameters=False)
    def parent(value: Any) -> Any:
        if fails:
            raise ValueError("no")
        return value

    given = make()
    state = parent(given, return_state=True)
    fails = False
    run_id = state.state_details.flow_run_id

    with pytest.raises(ParameterBindError, match="value"):
        parent.resume(run_id)
    assert parent.resume(run_id, {"value": given}) == given


@pytest.mark.parametrize(
    "parameters", [{"api_token": SECRET}, {"options": {"password": SECRET}}, {"all": [{"token": SECRET}]}]
)
def test_a_deployment_takes_no_secrets(parameters: dict[str, Any]) -> None:
    async def deploy() -> None:
        await get_client().create_deployment("nightly", "parent", "flows.py:parent", parameters)

    with pytest.raises(ValueError, match="is a secret by its name"):
        step(deploy())
