"""What the commands say, and the number that they end with.

Results go to standard output, as a table or as one JSON object; everything else goes to
standard error. Failures that are foreseen take one line and end with the code of their kind:
0 done, 1 invalid data or numerical failure, 2 usage, 3 incomplete but resumable, 4 corrupt or
mismatched file, 130 or 143 interrupted and resumable.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

# typer carries its own copy of click since 0.26: reach the class by what typer exports
UsageError: Any = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """The subcommands, with foreseen failures turned into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed already
                raise typer.Exit(2) from error
            _fail(error.format_message(), 2, hint=error.ctx)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except (ImportError, MemoryError, OSError, ValueError) as error:
            _fail(str(error) or type(error).__name__, getattr(error, "exit_code", 1))
        except Exception as error:
            if not hasattr(error, "exit_code") or isinstance(error, typer.Exit):
                raise
            _fail(str(error), getattr(error, "exit_code", 1))


def _fail(message: str, code: int, hint: Any = None) -> None:
    where = f" (see {hint.command_path} --help)" if hint else ""
    say(f"error: {' '.join(message.split())}{where}")
    raise typer.Exit(code)


def say(message: str) -> None:
    """Print one line to standard error."""
    print(message, file=sys.stderr, flush=True)


def check_new_file(out: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Refuse an output that cannot be made before anything is computed."""
    from coulex.errors import OutputError

    if out.suffix.lower() not in suffixes:
        msg = f"{out}: the file made here ends in {' or '.join(suffixes)}"
        raise typer.BadParameter(msg)
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        msg = f"cannot write {out}: {out.parent} is no folder that can be written to"
        raise OutputError(msg)
    if out.exists() and not overwrite:
        msg = f"{out} exists; --overwrite it, or choose another name"
        raise OutputError(msg)


def plain_warnings() -> None:
    """Let a warning be one line without the place in our source that it comes from."""
    import warnings

    def show(message, category, filename, lineno, file=None, line=None):  # noqa: ARG001
        say(f"warning: {message}")

    warnings.showwarning = show


def print_json(value: Any) -> None:
    """Print one JSON object to standard output; numbers that are not finite become null."""
    print(json.dumps(_finite(value), indent=1, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[float], None]]:
    """Give a function that takes the number of events just done, and draws on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


class Interrupted(Exception):
    """A signal ended the work between two blocks."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Stop:
    """Whether SIGINT or SIGTERM has come; a second one ends the process at once.

    Use as a context; ask between two blocks of work. `code` is what to exit with.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.code = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        for number in self._SIGNALS:
            self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __call__(self) -> bool:
        return self.code != 0

    def _come(self, number: int, _frame: object) -> None:
        self.code = 128 + number
        say("stopping after this block; press again to stop at once")
        for signal_number in self._SIGNALS:
            signal.signal(signal_number, signal.SIG_DFL)
