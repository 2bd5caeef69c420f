"""Why a task runner's module does not import, said so that it can be mended."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def explain_import_error(name: str, module: str, error: ImportError) -> str:
    """Returns what to tell the user about a runner that is registered but cannot be imported.

    Parameters:
        name: The name under which the runner is registered.
        module: The module that the registration names.
        error: What its import raised.
    """
    shadow = _shadow()
    if shadow is not None and (error.name or "").partition(".")[0] == "runners":
        theirs, ours = shadow
        return (
            f"The task runner {name!r} cannot be imported, because a folder of yours hides the package `runners` of "
            f"core_engine: {theirs} is found before {ours}. Rename your folder, or start Python elsewhere."
        )
    missing = error.name or module
    return (
        f"The task runner {name!r} needs {missing!r}, which is not installed ({error}). "
        f'Install it with: pip install "core-engine[{name}]"'
    )


def _shadow() -> tuple[Path, Path] | None:
    """Returns the place of a `runners` package that is not ours, and of ours; None when ours is found."""
    ours = Path(__file__).resolve().parents[2] / "runners"
    spec = importlib.util.find_spec("runners")
    places = [Path(place).resolve() for place in (spec.submodule_search_locations or [])] if spec else []
    if not places or ours in places:
        return None
    return places[0], ours
