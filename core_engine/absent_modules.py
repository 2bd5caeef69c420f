"""Imports of modules that Prefect 2.13 has and core_engine has not say what to use instead; see ``vocabulary``."""

from __future__ import annotations

import sys


class AbsentModules:
    """A finder that is asked last, finds nothing, and explains what is missing below core_engine."""

    @staticmethod
    def find_spec(fullname: str, path: object = None, target: object = None) -> None:
        """Raises for a module, or a name of a package, that the table knows to be absent."""
        if fullname.startswith("core_engine."):
            from core_engine.vocabulary import text_of_absent_module

            text = text_of_absent_module(fullname)
            if text is not None:
                # Without `name`, by which `from package import name` would know it and say nothing of this.
                raise ModuleNotFoundError(f"There is no {fullname}. {text}")


def install() -> None:
    """Has imports of absent modules explained; once in a process."""
    if AbsentModules not in sys.meta_path:
        sys.meta_path.append(AbsentModules)
