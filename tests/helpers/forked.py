"""Scripts as a shell starts them, in processes forked from one that has imported the libraries: no seconds to wait for.
Nor for what draws a page's charts, which takes V8 two seconds to put together.

What a cold start imports, and in which order, is tests/test_entry.py's.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from diffusion_text.tracking import pages

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["altair", "diffusion_text.composition", "diffusion_text.training", "transformers.models.bart.modeling_bart"]
)


def call(script, *arguments, cwd, env=None, timeout=300):
    """How a script ended, and what it printed; raises subprocess.TimeoutExpired."""
    with started(script, *arguments, cwd=cwd, env=env) as process:
        process.join(timeout)
        if process.exitcode is None:
            raise subprocess.TimeoutExpired([script, *arguments], timeout)
        stdout, stderr = (file.read_text(encoding="utf-8") for file in process.printed)
        return subprocess.CompletedProcess([script, *arguments], process.exitcode, stdout, stderr)


@contextmanager
def started(script, *arguments, cwd, env=None):
    """A process that runs a script of a shell's; killed in the end where it has not ended."""
    with tempfile.TemporaryDirectory() as directory:
        printed = Path(directory, "stdout"), Path(directory, "stderr")
        settings = str(script), arguments, cwd, dict(env or os.environ), printed, chart_scripts()
        process = SERVER.Process(target=run, args=settings)
        process.start()
        process.printed = printed
        try:
            yield process
        finally:
            process.kill()
            process.join()


@cache
def chart_scripts():
    """Those of diffusion_text.tracking.pages, made in a process of their own: V8's threads do not survive a fork."""
    code = "from diffusion_text.tracking.pages import chart_scripts; print(chart_scripts(), end='')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def run(script, arguments, cwd, env, printed, scripts):
    """In the new process: what a shell sets up, and the script."""
    pages.chart_scripts = lambda: scripts
    for descriptor, file in zip((1, 2), printed, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")
