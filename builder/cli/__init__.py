"""The command line: the only room that reads argv and the environment, prints, and exits."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Mapping
from typing import NoReturn


def main() -> int:
    """Run one command; the exit status is 0, 1 (build), 2 (spec, usage), 3 (`plan --exit-code`),
    130 (interrupted), 143 or 129 (terminated)."""
    from builder.errors import BuilderError, UsageError

    _open_standard()
    stopped = _Stopped()
    progress = ""
    sys.unraisablehook = stopped.dropped
    signal.signal(signal.SIGALRM, stopped.again)
    signal.signal(signal.SIGTERM, stopped.stop)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, stopped.stop)
    try:
        if sys.getfilesystemencoding() != "utf-8":
            raise UsageError(
                f"the locale's encoding is {sys.getfilesystemencoding()!r}, paths would be others",
                "LC_ALL=C.UTF-8",
            )
        # a run is short and makes no circles to speak of: looking for them took up to a tenth of it
        gc.set_threshold(100_000, 50, 100)
        from builder.cli.arguments import parse

        arguments = parse(sys.argv[1:])
        progress = getattr(arguments, "progress", "")
        status = arguments.run(arguments)
        sys.stdout.flush()
        return int(status or 0)
    except BuilderError as error:
        from builder.cli.screen import show_error
        from builder.ui.errors import error_document

        show_error(error, progress)
        _tell_machine(error_document(error))
        return error.exit_code
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # a terminal that was closed
            _tell(progress, f"{stopped.word}\n", {"message": stopped.word})
        return 128 + stopped.number
    except BrokenPipeError:
        # whoever read our output has gone: nothing left to say, and nowhere to say it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RecursionError:
        return _fail(progress, "nested too deeply")
    except OSError as error:
        where = f"{os.fsdecode(error.filename)!r} " if error.filename else ""
        return _fail(progress, f"{where}{error.strerror or error}")
    except MemoryError:
        return _fail(progress, "out of memory")
    except Exception as error:
        # a fault of ours: still one line, and the way to the rest
        if os.environ.get("BUILDER_TRACEBACK"):
            raise
        text = f"the builder itself failed: {type(error).__name__}: {error}"
        return _fail(progress, text, "BUILDER_TRACEBACK=1 shows where; please report it")


def _fail(progress: str, message: str, hint: str = "") -> int:
    text = f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    _tell(progress, text, {"message": message, **({"hint": hint} if hint else {})})
    return 1


def _tell(progress: str, text: str, error: Mapping[str, object]) -> None:
    """The last line on stderr: `text`, or as an object for who asked for those."""
    if progress == "json":
        from builder.ui.jsonl import line

        text = line("error", error)
    sys.stderr.write(text)
    _tell_machine(error)


def _tell_machine(error: Mapping[str, object]) -> None:
    """Of a command that was asked for JSON, a failure is JSON on stdout too."""
    if not _asks_json(sys.argv[1:]):
        return
    import json

    with contextlib.suppress(OSError):  # nobody reads it
        sys.stdout.write(json.dumps({"error": error}, indent=2) + "\n")
        sys.stdout.flush()


def _asks_json(argv: list[str]) -> bool:
    """Whether --json is the builder's, and not what another program is called with."""
    from builder.cli.commands import COMMANDS

    command = next((COMMANDS[word] for word in argv if word in COMMANDS), None)
    return "--json" in argv and not (command and command.passes_on)


def _open_standard() -> None:
    """Let 0, 1 and 2 lead nowhere where the caller closed them: else the next file that is opened
    gets the number, and what is printed goes into it."""
    for handle, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(handle, "w" if handle else "r", encoding="utf-8"))  # noqa: SIM115  # until the end
    assert sys.stdout is not None
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: what cannot be said is shown


class _Stopped:
    """SIGTERM and SIGHUP end a build as Ctrl-C does: steps end, nothing half-written remains."""

    def __init__(self) -> None:
        self.number, self.word = int(signal.SIGINT), "interrupted"

    def stop(self, number: int, frame: object) -> NoReturn:
        self.number, self.word = number, "terminated"
        raise KeyboardInterrupt

    def dropped(self, raised: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised within a weakref's callback (every import has one) or a
        `__del__`: an interrupt that fell there comes again in a moment, when that is over."""
        if raised.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            sys.__unraisablehook__(raised)

    def again(self, number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt
