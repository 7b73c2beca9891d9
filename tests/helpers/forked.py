"""Scripts as a shell starts them, in processes forked from one that has imported the libraries: no seconds to wait for.
Nor for what draws a page's charts, which takes V8 two seconds to put together.

What a cold start imports, and in which order, is tests/test_entry.py's.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from diffusion_text.tracking import pages

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["altair", "diffusion_text.composition", "diffusion_text.training", "transformers.models.bart.modeling_bart"]
)


def call(script, *arguments, cwd, env=None, timeout=300):
    """How a script ended, and what it printed; raises subprocess.TimeoutExpired."""
    with started(script, *arguments, cwd=cwd, env=env) as process:
        return ended(process, [script, *arguments], timeout)


def ended(process, command, timeout):
    process.join(timeout)
    if process.exitcode is None:
        raise subprocess.TimeoutExpired(command, timeout)
    stdout, stderr = (file.read_text(encoding="utf-8") for file in process.printed)
    return subprocess.CompletedProcess(command, process.exitcode, stdout, stderr)


def srun(script, *arguments, cwd, tasks=2, timeout=300):
    """How each task of a job ended that SLURM's srun would start on one node."""
    with ExitStack() as running:
        processes = [running.enter_context(started(script, *arguments, cwd=cwd, env=env)) for env in of_tasks(tasks)]
        return [ended(process, [script, *arguments], timeout) for process in processes]


def come_through(code, place):
    """Have two tasks of a job run this code to its end."""
    script = place / "script.py"
    script.write_text(f"{code}\nprint('all is well')\n", encoding="utf-8")
    for task in srun(script, cwd=place, timeout=100):
        assert (task.returncode, task.stdout) == (0, "all is well\n"), task.stderr


def of_tasks(tasks):
    """The environment of each task."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"JOB_ID": 1, "JOB_NAME": "train", "NTASKS": tasks, "NTASKS_PER_NODE": tasks, "NNODES": 1, "NODEID": 0}
    each = [job | {"PROCID": task, "LOCALID": task} for task in range(tasks)]
    common = os.environ | {"MASTER_PORT": str(port)}
    return [common | {f"SLURM_{name}": str(value) for name, value in task.items()} for task in each]


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
    rank_zero_only.rank = int(env.get("SLURM_PROCID", 0))  # which Lightning reads when it is imported
    sys.argv = [script, *arguments]
    sys.path[:1] = [str(Path(script).parent), str(Path(__file__).parent)]
    runpy.run_path(script, run_name="__main__")
