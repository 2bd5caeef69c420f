"""Helpers without any knowledge of runs; nothing here imports the engine.

collections    visit_collection, isiterable, nested dictionaries; the public names of the next three modules
structures     what counts as a container, how to take it apart and put it together again
handles        finds and replaces futures and states inside arguments; the part that is used once per task run
dictionaries   flat and nested dictionaries, look-up by path
callables      a function's signature, compiled once: arguments to parameters and back
parameters     validation of parameters against annotations (loads pydantic)
schemas        the JSON schema of a function's parameters (loads pydantic)
docstrings     descriptions of parameters from a docstring
type_hints     a function's annotations as types, postponed ones included
names          random two-word names
secret_names   which parameter names are shown masked
importing      objects from dotted names, modules from scripts
hashing        stable hashes of values, files and functions
"""

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
