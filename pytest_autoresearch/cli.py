"""
``autoresearch``: look at a campaign, reproduce and verify what it found, ratify a changed harness, redraw its reports.

Sessions themselves are ``pytest --autoresearch``.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence

from . import __version__
from .campaign import NOT_READY
from .commands import (
    attest,
    cohorts,
    doctor,
    export,
    init,
    log,
    ratify,
    report,
    reproduce,
    show,
    status,
    verify,
)

__all__ = ["main"]

_COMMANDS = {
    "init": init,
    "status": status,
    "log": log,
    "show": show,
    "reproduce": reproduce,
    "export": export,
    "cohorts": cohorts,
    "verify": verify,
    "attest": attest,
    "report": report,
    "ratify": ratify,
    "doctor": doctor,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one subcommand in the current project; its exit status, or 1 with a sentence that says why.
    """
    parser = argparse.ArgumentParser(prog="autoresearch", description=__doc__.split("\n\n")[0])
    parser.add_argument("--version", action="version", version=f"pytest-autoresearch {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.arguments(sub)
        sub.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever the locale can write
    try:
        done: int = options.run(options)
        sys.stdout.flush()
    except NOT_READY as error:
        print(f"autoresearch: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; nothing is left to be flushed at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return done


if __name__ == "__main__":
    sys.exit(main())
