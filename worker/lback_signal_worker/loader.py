"""Importing handler modules, with errors that say what to do. Knows no broker.

A module that is not found, an error inside one, and a module that registers nothing are three
different mistakes, and each has its own sentence.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from lback_relay.error_text import described_in_one_line
from lback_relay.errors import ConfigError, RegistrationError, RelayError
from lback_relay.printable import printable
from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.os_signals import Stopped


class HandlersNotLoaded(RelayError):
    """A handler module can't be used; the message names it, the place, and the remedy."""


def load_handlers(modules: Sequence[str], dispatcher: RemoteDispatcher) -> list[str]:
    """Import the modules, which register their handlers.

    Args:
        modules: dotted names.
        dispatcher: where they register.

    Returns: warnings: the modules that registered nothing.

    Raises:
        HandlersNotLoaded: one can't be imported, or none registers a handler.
        ConfigError: one needs settings that are wrong or missing.
        Stopped: an OS signal came.
    """
    silent = []
    for module in modules:
        before = _count(dispatcher)
        already = module in sys.modules
        _import(module)
        if _count(dispatcher) == before and not already:
            silent.append(module)
    if not _count(dispatcher):
        named = ", ".join(modules)
        raise HandlersNotLoaded(
            f"no handler is registered by {named}: decorate them with "
            '@remote_dispatcher.receiver("signal"), from lback_relay import remote_dispatcher '
            "(receivers of Lback's own dispatcher run in the web process only)"
        )
    return [f"{module} registers no handler" for module in silent]


def _count(dispatcher: RemoteDispatcher) -> int:
    return sum(len(dispatcher.handlers(signal)) for signal in dispatcher.signals())


def _import(module: str) -> None:
    if module.endswith(".py") or "/" in module:
        raise HandlersNotLoaded(f"{module} is a file; {_instead_of(Path(module))}")
    if not all(part.isidentifier() for part in module.split(".")):
        raise HandlersNotLoaded(
            f"{module!r} is no module's name; write it with dots: myproject.handlers"
        )
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        # What is missing is the module itself or a package around it, not something it imports.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise HandlersNotLoaded(_not_found(module, error.name)) from error
        raise HandlersNotLoaded(_failed(module, error)) from error
    except Stopped:
        raise
    except ConfigError as error:  # settings that the module needs
        raise ConfigError(error.problems, source=f"{module}: {error.source}") from error
    except BaseException as error:
        raise HandlersNotLoaded(_failed(module, error)) from error


def _instead_of(file: Path) -> str:
    """Return what to do instead of naming a file."""
    if file.is_absolute() or ".." in file.parts:
        # Where its package begins can't be told; from its own folder it can be imported for sure.
        file = Path(os.path.abspath(file))  # noqa: PTH100 - resolve() would follow links, too
        return f"start the worker in {file.parent} and name the module instead: {file.stem}"
    named = ".".join(file.parts).removesuffix(".py")
    return f"name the module instead: {named}"


def _not_found(module: str, missing: str) -> str:
    near = difflib.get_close_matches(missing, _siblings(missing), n=1, cutoff=0.6)
    if near:
        guess = near[0] + module[len(missing) :]
        return f"there is no module named {missing!r}; did you mean {guess!r}?"
    parent = missing.rpartition(".")[0]
    if parent:
        return f"there is no module named {missing!r}; is it a file in the package {parent!r}?"
    return (
        f"there is no module named {missing!r} on sys.path; start the worker in the folder that "
        "holds it, or name the project: --settings FILE"
    )


def _siblings(missing: str) -> list[str]:
    """Return the modules that are where the missing one was looked for."""
    parent = missing.rpartition(".")[0]
    package = sys.modules.get(parent)
    paths = None if package is None else list(getattr(package, "__path__", []))
    prefix = f"{parent}." if parent else ""
    return [prefix + found.name for found in pkgutil.iter_modules(paths)]


def _failed(module: str, error: BaseException) -> str:
    where = f" at {place}" if (place := _place(error)) else ""
    # A refused handler explains itself; the name of its error class adds nothing.
    own = isinstance(error, RegistrationError)
    shown = printable(str(error)) if own else described_in_one_line(error)
    return f"{module} can't be imported: {shown}{where}"


def _place(error: BaseException) -> str:
    """Return ``file:line`` of the failure, outside the relay and the import machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    own = (__file__, sys.modules[RemoteDispatcher.__module__].__file__, importlib.__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in own and not frame.filename.startswith("<frozen")
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
