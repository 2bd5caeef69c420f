"""``python -m core_engine.engine <flow-run-id>``: executes a run that was created for later.

The id is the first argument, or the variable CORE_ENGINE__FLOW_RUN_ID. Exit codes: 0 when the run came to a state that
is recorded, Failed and Paused ones included, and when it was not to be executed; 1 when it could not be.
"""

from __future__ import annotations

import os
import sys
from uuid import UUID

from core_engine.exceptions import Abort, Pause

ID_VARIABLE = "CORE_ENGINE__FLOW_RUN_ID"


def main(arguments: list[str]) -> int:
    """Executes the run and returns the exit code; what is no Exception is raised."""
    from core_engine.logging import get_logger, setup_logging

    setup_logging()
    logger = get_logger("engine")
    text = arguments[0] if arguments else os.environ.get(ID_VARIABLE)
    if text is None:
        logger.error("No flow run is named. Give its id as the first argument, or in %s.", ID_VARIABLE)
        return 1
    try:
        id = UUID(text)
    except ValueError:
        logger.error("%r is no flow run's id: it must be a UUID.", text)
        return 1
    from core_engine.engine import enter_flow_run_engine_from_subprocess

    try:
        enter_flow_run_engine_from_subprocess(id)
    except Abort as abort:
        logger.info("Flow run %s was not executed here: %s", id, abort)
    except Pause:
        logger.info("Flow run %s is paused; it goes on when it is resumed", id)
    except Exception:
        logger.exception("Flow run %s could not be executed", id)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
