"""How the processes of training share the work."""

from __future__ import annotations

from typing import Any

import accelerate
from accelerate import utils

from torch_bridge.renderers import base


def accelerator(job: dict[str, Any]) -> accelerate.Accelerator:
  """Joins the other processes, if the environment names any.

  Args:
    job: the job file: `options.device` may be "cpu"; `training.shard` shards the
      weights over the processes (FSDP2) instead of copying them (DDP).
  """
  training = job["training"]
  plugin = None
  if training["shard"]:
    plugin = utils.FullyShardedDataParallelPlugin(
      fsdp_version=2,
      auto_wrap_policy="transformer_based_wrap",
      state_dict_type="FULL_STATE_DICT",
    )
  return accelerate.Accelerator(
    cpu=job.get("options", {}).get("device") == "cpu",
    mixed_precision="bf16"
    if training["shard"] and training["precision"] == "bfloat16"
    else "no",
    fsdp_plugin=plugin,
    # Every parameter takes part in every step.
    kwargs_handlers=[utils.DistributedDataParallelKwargs(find_unused_parameters=False)],
  )


def share(batch_size: int, count: int) -> int:
  """How many pairs of a batch each of `count` processes has.

  Raises:
    ModelError: not all have the same number.
  """
  pairs, rest = divmod(batch_size, count)
  if rest:
    raise base.ModelError(
      f"batch_size={batch_size} is not a multiple of the {count} processes"
    )
  return pairs
