"""The device mesh; part of the configs of training and sampling."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """One device; -1 on one axis uses all devices that the other axes leave.

  A mesh that leaves devices unused is refused, unless `devices` names how many to use.
  """
  config = ml_collections.ConfigDict()
  config.data = 1  # data parallelism: copies of the weights
  config.fsdp = 1  # data parallelism with sharded weights and optimizer (ZeRO-3)
  config.tensor = 1  # tensor parallelism: sharded matrices (Megatron)
  config.devices = 0  # how many devices to use; 0 is all
  return config
