"""Names of runs: a template over the parameters, or what a function returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core_engine.option_checks import check_run_name


def make_run_name(template: Callable[[], str] | str, option: str, parameters: Mapping[str, Any]) -> str:
    """Returns the name that `template` gives.

    Parameters:
        template: A format string over `parameters`, or a function without arguments.
        option: The option's name, for the error.

    Raises:
        TypeError: The template is neither, or the function returned something other than text.
    """
    check_run_name(template, option)
    if isinstance(template, str):
        return template.format(**parameters)
    name: object = template()
    if not isinstance(name, str):
        maker = getattr(template, "__name__", type(template).__name__)
        raise TypeError(
            f"The function {maker!r}, given as {option}, must return a string; it returned {type(name).__name__}."
        )
    return name
