"""The device mesh; part of the configs of training and sampling."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """One device; -1 on one axis uses all devices that the other axes leave."""
  config = ml_collections.ConfigDict()
  config.data = 1  # data parallelism: copies of the weights
  config.fsdp = 1  # data parallelism with sharded weights and optimizer (ZeRO-3)
  config.tensor = 1  # tensor parallelism: sharded matrices (Megatron)
  return config
