"""As VBench's module of that name, without CUDA."""

import os


def dist_init():
  import torch.distributed

  torch.distributed.init_process_group("gloo")


def rank():
  return int(os.environ.get("RANK", "0"))


def size():
  return int(os.environ.get("WORLD_SIZE", "1"))
