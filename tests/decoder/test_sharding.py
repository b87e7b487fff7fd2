"""What a mesh's devices are."""

import types

import pytest

from vpo_jax.decoder import sharding


@pytest.mark.parametrize(
  ("platforms", "one"), [(["gpu"], True), (["gpu", "gpu"], False), (["cpu"], False)]
)
def test_one_gpu_is_read_from_where_rows_live(platforms, one):
  devices = [types.SimpleNamespace(platform=name) for name in platforms]
  rows = types.SimpleNamespace(device_set=devices)
  assert sharding.one_gpu(rows) == one  # pyright: ignore[reportArgumentType]
