"""A function's signature, compiled once: from arguments to parameters by name, and back to a call.

`CallSignature` does the work; a flow or task keeps its own. The functions below it do the same for any function.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from core_engine.exceptions import ParameterBindError, ReservedArgumentError, SignatureMismatchError
from core_engine.utilities.secret_names import SECRET_MASK, is_secret_name

# Keywords of a call that the engine takes itself, so that no function can have them as parameters.
RESERVED_NAMES = ("return_state", "wait_for")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_UNSET: Any = object()


class CallSignature:
    """Binds the arguments of calls to the parameters of one function.

    The binding is done by the interpreter: a function with the same signature is compiled on first use, whose body
    returns its parameters as a dictionary. That is as fast, and as exact, as a call. Safe to use from any thread.

    Attributes:
        name: the function's name, for messages.
        signature: its signature, without ``self`` or ``cls`` for bound and class methods.
        defaults: the default values by parameter.
        var_positional: the name of ``*args``, None if the function has none.
        var_keyword: the name of ``**kwargs``, None if the function has none.
    """

    __slots__ = (
        *("name", "signature", "defaults", "var_positional", "var_keyword"),
        *("_names", "_code", "_pack", "_unpack", "__weakref__"),
    )

    def __init__(self, name: str, signature: Signature) -> None:
        parameters = signature.parameters
        self.name = name
        self.signature = signature
        self.defaults = {p.name: p.default for p in parameters.values() if p.default is not Parameter.empty}
        self.var_positional = _name_of_kind(signature, Parameter.VAR_POSITIONAL)
        self.var_keyword = _name_of_kind(signature, Parameter.VAR_KEYWORD)
        self._names = frozenset(parameters)
        self._code: tuple[CodeType, CodeType] | None = None
        self._pack: Callable[..., dict[str, Any]] | None = None
        self._unpack: Callable[[Mapping[str, Any]], Arguments] | None = None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Self:
        """Reads the signature of a function, bound method, class, or other callable.

        A callable whose signature cannot be read (some built-ins) is taken to have ``(*args, **kwargs)``.
        """
        return cls(callable_name(function), read_signature(function))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the signature's order."""
        return tuple(self.signature.parameters)

    @property
    def is_annotated(self) -> bool:
        """Whether any parameter has an annotation; if not, there is nothing to validate."""
        return any(p.annotation is not Parameter.empty for p in self.signature.parameters.values())

    def check_reserved_names(self, reserved: Iterable[str] = RESERVED_NAMES) -> None:
        """Refuses parameters whose names are keywords of the engine.

        Raises:
            ReservedArgumentError: a parameter is called ``return_state`` or ``wait_for``.
        """
        for name in reserved:
            if name in self._names:
                raise ReservedArgumentError(
                    f"The function {self.name!r} has a parameter {name!r}, a name that calls of flows and tasks use "
                    "themselves. Rename the parameter."
                )

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], defaults: bool = True) -> dict[str, Any]:
        """Binds a call's arguments to parameters.

        Parameters:
            args: the positional arguments.
            kwargs: the keyword arguments.
            defaults: whether parameters that were not given get their default values. If not they are left out, empty
                variadics too.

        Returns:
            The values by parameter in the signature's order; ``*args`` as a tuple and ``**kwargs`` as a dict, each
            under its own name.

        Raises:
            ParameterBindError: an argument is missing, surplus, misnamed, or given twice.
        """
        try:
            if defaults:
                return (self._pack or self._compile_pack())(*args, **kwargs)
            given = self._function(0, dict.fromkeys(self.defaults, _UNSET))(*args, **kwargs)
        except TypeError as error:
            # The compiled function does nothing but take its arguments, so this is about them.
            raise ParameterBindError(self._misfit(error, args, kwargs)) from None
        for variadic in (self.var_positional, self.var_keyword):
            if variadic and not given[variadic]:
                del given[variadic]
        return {name: value for name, value in given.items() if value is not _UNSET}

    def arguments(self, parameters: Mapping[str, Any]) -> Arguments:
        """Turns parameters back into the positional and keyword arguments of a call.

        Parameters:
            parameters: the values by parameter; those with a default, and variadics, may be missing.

        Returns:
            The positional and the keyword arguments. The dict is a new one.

        Raises:
            SignatureMismatchError: a name is no parameter of the function, or a required one is missing.
        """
        if parameters.keys() != self._names:
            parameters = self.fill(parameters)
        return (self._unpack or self._compile_unpack())(parameters)

    def fill(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Adds default values and empty variadics where they are missing; returns all in the signature's order.

        Raises:
            SignatureMismatchError: a name is no parameter of the function, or a required one is missing.
        """
        complete = dict(self.defaults)
        if self.var_positional:
            complete[self.var_positional] = ()
        if self.var_keyword:
            complete[self.var_keyword] = {}
        complete.update(parameters)
        if complete.keys() != self._names:
            raise SignatureMismatchError(
                f"The parameters do not fit the signature of {self.name!r}. Expected: {_listed(self.parameter_names)}. "
                f"Provided: {_listed(parameters)}. A stored run may have been made by another version of the function."
            )
        return {name: complete[name] for name in self.signature.parameters}

    def explode(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Moves the entries of ``**kwargs`` to the top level. Without ``**kwargs`` nothing changes.

        Raises:
            ValueError: an entry has the name of a parameter, so that `collapse` could not tell them apart.
        """
        exploded = dict(parameters)
        if self.var_keyword is None or self.var_keyword not in exploded:
            return exploded
        entries = exploded.pop(self.var_keyword)
        if clash := self._names.intersection(entries):
            raise ValueError(
                f"The keyword arguments {_listed(sorted(clash))} for **{self.var_keyword} have the names of parameters "
                f"of {self.name!r}. Give them other names."
            )
        exploded.update(entries)
        return exploded

    def collapse(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Puts names that are no parameters back into ``**kwargs``, the reverse of `explode`.

        Raises:
            ValueError: there are such names, but the function has no ``**kwargs``.
        """
        known = {name: value for name, value in parameters.items() if name in self._names}
        surplus = {name: value for name, value in parameters.items() if name not in self._names}
        if not surplus:
            return known
        if self.var_keyword is None:
            raise ValueError(
                f"{_listed(surplus)}: no parameters of {self.name!r}, which takes no variable keyword arguments. "
                f"Its parameters are {_listed(self.parameter_names)}."
            )
        known[self.var_keyword] = {**known.get(self.var_keyword, {}), **surplus}
        return known

    def __reduce__(self) -> tuple[type[Self], tuple[str, Signature]]:
        return type(self), (self.name, self.signature)

    def __str__(self) -> str:
        try:
            return f"{self.name}{self.signature}"
        except Exception:  # the repr of a default value is the user's code, and may fail
            return f"{self.name}({', '.join(self.parameter_names)})"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def _misfit(self, error: TypeError, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        received = [_brief_repr(value) for value in args]
        received += [f"{n}={SECRET_MASK if is_secret_name(str(n)) else _brief_repr(v)}" for n, v in kwargs.items()]
        return f"The arguments do not fit {self}: {error}. Received: ({', '.join(received)})."

    # Compilation ----------------------------------------------------------------------------------------------------

    def _compile_pack(self) -> Callable[..., dict[str, Any]]:
        self._pack = self._function(0, self.defaults)
        return self._pack

    def _compile_unpack(self) -> Callable[[Mapping[str, Any]], Arguments]:
        self._unpack = self._function(1, {})
        return self._unpack

    def _function(self, index: int, defaults: Mapping[str, Any]) -> Callable[..., Any]:
        """Makes the packing (0) or unpacking (1) function, with the given default values."""
        if self._code is None:
            self._code = _compile_code(self.signature)
        function = FunctionType(self._code[index], {})
        function.__qualname__ = self.name  # the interpreter's messages about misfits begin with it
        parameters = self.signature.parameters.values()
        # Default values are set, not written into the source, where their names could clash with parameters.
        function.__defaults__ = tuple(
            defaults[p.name] for p in parameters if p.name in defaults and p.kind is not Parameter.KEYWORD_ONLY
        )
        function.__kwdefaults__ = {
            p.name: defaults[p.name] for p in parameters if p.name in defaults and p.kind is Parameter.KEYWORD_ONLY
        }
        return function


def _compile_code(signature: Signature) -> tuple[CodeType, CodeType]:
    """Compiles the two functions behind a `CallSignature`, for instance of ``f(a, /, *args, c=1, **kwargs)``:

    - ``lambda a, /, *args, c, **kwargs: {'a': a, 'args': args, 'c': c, 'kwargs': kwargs}``
    - ``lambda p, /: ((p['a'], *p['args']), {'c': p['c'], **p['kwargs']})``
    """
    declared: list[str] = []
    positional: list[str] = []
    keyword: list[str] = []
    kinds = [p.kind for p in signature.parameters.values()]
    for position, p in enumerate(signature.parameters.values()):
        if p.kind is Parameter.VAR_POSITIONAL:
            declared.append(f"*{p.name}")
            positional.append(f"*p[{p.name!r}]")
        elif p.kind is Parameter.VAR_KEYWORD:
            declared.append(f"**{p.name}")
            keyword.append(f"**p[{p.name!r}]")
        elif p.kind is Parameter.KEYWORD_ONLY:
            if Parameter.VAR_POSITIONAL not in kinds[:position] and Parameter.KEYWORD_ONLY not in kinds[:position]:
                declared.append("*")
            declared.append(p.name)
            keyword.append(f"{p.name!r}: p[{p.name!r}]")
        else:
            declared.append(p.name)
            positional.append(f"p[{p.name!r}]")
            if p.kind is Parameter.POSITIONAL_ONLY and Parameter.POSITIONAL_ONLY not in kinds[position + 1 :]:
                declared.append("/")
    items = ", ".join(f"{name!r}: {name}" for name in signature.parameters)
    pack = f"lambda {', '.join(declared)}: {{{items}}}"
    unpack = f"lambda p, /: (({''.join(f'{item}, ' for item in positional)}), {{{', '.join(keyword)}}})"
    return _lambda_code(pack), _lambda_code(unpack)


def _lambda_code(source: str) -> CodeType:
    module = compile(source, "<call signature>", "eval")
    return next(constant for constant in module.co_consts if isinstance(constant, CodeType))


def _name_of_kind(signature: Signature, kind: Any) -> str | None:
    return next((p.name for p in signature.parameters.values() if p.kind is kind), None)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "none"


_reprs = reprlib.Repr()
_reprs.maxstring = _reprs.maxother = 80


def _brief_repr(value: Any) -> str:
    return _reprs.repr(value)  # cut, and safe against a __repr__ that raises


# For any function ---------------------------------------------------------------------------------------------------


def callable_name(function: Callable[..., Any]) -> str:
    """Returns a function's name; for other callables that of what they wrap, or of their class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def read_signature(function: Callable[..., Any]) -> Signature:
    """Returns a callable's signature, ``(*args, **kwargs)`` where it cannot be read.

    Raises:
        TypeError: the object is not callable.
    """
    try:
        if sys.version_info >= (3, 14):
            from annotationlib import Format

            # Names in annotations may be defined later, or only for type checkers.
            return inspect.signature(function, annotation_format=Format.FORWARDREF)
        return inspect.signature(function)
    except ValueError:
        return Signature([Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)])


# Weak, so that functions made on the fly can go. Any thread writes; a lost entry is made again.
_signatures: WeakKeyDictionary[Callable[..., Any], CallSignature] = WeakKeyDictionary()


def call_signature(function: Callable[..., Any]) -> CallSignature:
    """Returns the `CallSignature` of a function, remembered as long as the function lives."""
    try:
        known = _signatures.get(function)
        if known is None:
            known = _signatures[function] = CallSignature.of(function)
        return known
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        return CallSignature.of(function)


def get_call_parameters(
    fn: Callable[..., Any], call_args: tuple[Any, ...], call_kwargs: dict[str, Any], apply_defaults: bool = True
) -> dict[str, Any]:
    """Binds a call's arguments to the function's parameters; see `CallSignature.bind`."""
    return call_signature(fn).bind(tuple(call_args), call_kwargs, defaults=apply_defaults)


def parameters_to_args_kwargs(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> Arguments:
    """Turns parameters into the arguments of a call; see `CallSignature.arguments`."""
    return call_signature(fn).arguments(parameters)


def call_with_parameters(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """Calls a function with parameters by name and returns what it returns.

    Raises:
        SignatureMismatchError: the names do not fit the function's signature.
    """
    args, kwargs = call_signature(fn).arguments(parameters)
    return fn(*args, **kwargs)


def explode_variadic_parameter(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Moves the entries of the function's ``**kwargs`` to the top level; see `CallSignature.explode`."""
    return call_signature(fn).explode(parameters)


def collapse_variadic_parameters(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Puts unknown names into the function's ``**kwargs``; see `CallSignature.collapse`."""
    return call_signature(fn).collapse(parameters)


def raise_for_reserved_arguments(fn: Callable[..., Any], reserved_arguments: Iterable[str] = RESERVED_NAMES) -> None:
    """Refuses functions that have one of the engine's keywords as a parameter.

    Raises:
        ReservedArgumentError: a parameter has a reserved name.
    """
    call_signature(fn).check_reserved_names(reserved_arguments)


def parameter_schema(fn: Callable[..., Any]) -> dict[str, Any]:
    """Returns the JSON schema of a function's parameters; see `core_engine.utilities.schemas`."""
    from core_engine.utilities.schemas import parameter_schema  # loads pydantic

    return parameter_schema(fn)


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
