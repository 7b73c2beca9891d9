"""For scripts that forked.srun starts: their tasks, connected."""

import os

import torch


def connect():
    """This task's number; from here on they are one group."""
    rank, tasks, port = (int(os.environ[name]) for name in ("SLURM_PROCID", "SLURM_NTASKS", "MASTER_PORT"))
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=tasks)
    return rank
