"""Follows instructions one after another in one process, so that libraries are imported once.

Reads a JSON list of argument lists from standard input. A script comes first, `-m` and a module, `pytest`, or `exec`
and Python code. Writes a JSON list of exit codes and outputs. `outputs/DATE/TIME-NAME` is the newest run with samples,
`outputs/DATE/TIME-classifier` the newest classifier.
"""

import contextlib
import io
import json
import logging
import runpy
import sys
import traceback
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

PLACEHOLDERS = {"outputs/DATE/TIME-NAME": "*/*/samples", "outputs/DATE/TIME-classifier": "*/*-classifier/checkpoints"}


def filled(argument):
    """An argument with a run for each placeholder."""
    for placeholder, inside in PLACEHOLDERS.items():
        found = Path("outputs").glob(inside)
        newest = max(found, key=lambda path: path.stat().st_mtime, default=Path(placeholder, "none")).parent
        argument = argument.replace(placeholder, str(newest))
    return argument


def follow(program, *arguments):
    """The exit code and what was printed."""
    arguments = [filled(argument) for argument in arguments]
    sys.argv = arguments if program == "-m" else [program, *arguments]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = execute(program, arguments)
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
    leave_no_trace()
    return int(code), printed.getvalue()


def execute(program, arguments):
    if program == "pytest":
        return pytest.main(arguments)
    if program == "exec":
        exec(compile(arguments[0], "<block>", "exec"), {"__name__": "block"})
    elif program == "-m":
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")
    return 0


def leave_no_trace():
    """What Hydra sets up for a job and leaves to the end of the process."""
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    for handler in logging.root.handlers[:]:
        logging.root.removeHandler(handler)
        handler.close()


if __name__ == "__main__":
    json.dump([follow(*instruction) for instruction in json.load(sys.stdin)], sys.stdout)
