"""Objects from their names, modules from scripts."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from core_engine.exceptions import ScriptError

# Modules with such names exist in this process only: what they define must be pickled by value.
SCRIPT_MODULE_PREFIX = "core_engine_script_"

_script_numbers = itertools.count(1)


def to_qualified_name(obj: Any) -> str:
    """Returns the dotted name of a class, function or module, as `import_object` takes it."""
    if isinstance(obj, ModuleType):
        return obj.__name__
    return f"{obj.__module__}.{obj.__qualname__}"


def import_object(name: str) -> Any:
    """Imports an object by its name.

    Parameters:
        name: ``"package.module:attribute"``, where the attribute may be dotted; ``"package.module.attribute"``, the
            name of a module, or ``"path/to/script.py:attribute"``.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: the module has no such attribute.
        ScriptError: the script cannot be executed.
    """
    path, separator, attribute = name.rpartition(":")
    if not separator:
        return _import_dotted(name)
    module = load_script_as_module(path) if path.endswith(".py") else importlib.import_module(path)
    return _attribute(module, attribute, name)


def _import_dotted(name: str) -> Any:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module_name = ".".join(parts[:count])
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # Only if this module itself is missing may the last part be an attribute.
            missing = error.name or ""
            if count == 1 or not (module_name == missing or module_name.startswith(f"{missing}.")):
                raise
        else:
            return _attribute(module, ".".join(parts[count:]), name)
    raise ModuleNotFoundError(f"Cannot import {name!r}: it names no module.")


def _attribute(module: ModuleType, dotted: str, name: str) -> Any:
    obj: Any = module
    for part in dotted.split(".") if dotted else ():
        try:
            obj = getattr(obj, part)
        except AttributeError as error:
            raise AttributeError(f"Cannot import {name!r}: {to_qualified_name(module)} has no {dotted!r}.") from error
    return obj


def _line_of(error: Exception, file: Path) -> str:
    """Returns where in a file an exception came from, as the end of a sentence; empty if from nowhere in it."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
    return f" ({file.name}, line {lines[-1]})" if lines else ""


def is_script_module(name: str) -> bool:
    """Returns whether a module's name is that of a script loaded by `load_script_as_module`."""
    return name.startswith(SCRIPT_MODULE_PREFIX)


def is_main_module(name: str) -> bool:
    """Returns whether a module's name is that of the script that was started, here or, by multiprocessing, above."""
    return name in ("__main__", "__mp_main__")


def lasting_module_name(name: str) -> str:
    """Returns a module's name as other processes know it too.

    That of a script is the file's, whether it was started itself or loaded by `load_script_as_module`.
    """
    if is_script_module(name):
        return name.removeprefix(SCRIPT_MODULE_PREFIX).partition("_")[2]
    if not is_main_module(name):
        return name
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return name if file is None else Path(file).stem


def load_script_as_module(path: str | os.PathLike[str]) -> ModuleType:
    """Executes a Python file as a module of its own, and keeps it in ``sys.modules``.

    Its name is unique, so its main guard stays closed, loading it again executes it again, and objects pickled by
    reference to it can be recognised (`is_script_module`). While it is executed its folder can be imported from.

    Parameters:
        path: the file.

    Raises:
        ScriptError: the file cannot be read or raises an exception, which is the cause.
    """
    file = Path(path).resolve()
    name = f"{SCRIPT_MODULE_PREFIX}{next(_script_numbers)}_{file.stem}"
    spec = spec_from_loader(name, SourceFileLoader(name, str(file)))
    assert spec is not None
    assert spec.loader is not None  # it was given
    module = module_from_spec(spec)
    folder = str(file.parent)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        reason = f"{type(error).__name__}: {error}{_line_of(error, file)}"
        raise ScriptError(f"The script {os.fspath(path)!r} could not be executed: {reason}", os.fspath(path)) from error
    except BaseException:  # SystemExit, KeyboardInterrupt: theirs to decide
        sys.modules.pop(name, None)
        raise
    finally:
        if folder in sys.path:  # the script may have changed the path itself
            sys.path.remove(folder)
    return module
