"""Scripts as a shell starts them, in processes forked from one that has imported the libraries: no seconds to wait for.

What a cold start imports, and in which order, is tests/test_entry.py's.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["diffusion_text.composition", "diffusion_text.training"])


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
        process = SERVER.Process(target=run, args=(str(script), arguments, cwd, dict(env or os.environ), printed))
        process.start()
        process.printed = printed
        try:
            yield process
        finally:
            process.kill()
            process.join()


def run(script, arguments, cwd, env, printed):
    """In the new process: what a shell sets up, and the script."""
    for descriptor, file in zip((1, 2), printed, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")
