"""One step on more and more devices: what launch/bench.py --devices says."""

import pytest

from vpo_jax import errors
from vpo_jax.plan import devices

QUERIES = [f"{count} cats on skateboards" for count in range(16)]
SETTINGS = {"precision": "float32", "micro_tokens": 512, "remat": "none"}


def test_host_devices_give_losses_and_bytes_and_no_speed(tiny_llama):
  made = devices.bench(
    "sft", str(tiny_llama), QUERIES, [1, 4], batch=2, steps=1, **SETTINGS
  )
  one, four = made["devices"]
  assert one["batch"] == four["batch"] == 8
  assert len(one["losses"]) == 2
  assert one["loss_gap"] == 0
  assert four["loss_gap"] < 1e-5
  # Weights and both moments are split; what is not (norms, counts) is small.
  assert four["state_bytes"] == pytest.approx(one["state_bytes"] / 4, rel=0.01)
  assert not one["sent_bytes"]
  weights = one["state_bytes"] / 3
  # ZeRO-3 brings the weights to the rows; the tied head counts once.
  assert four["sent_bytes"]["all-gather"] > 0.7 * weights
  assert "no figure of speed" in made["note"]
  assert not any("second" in key for key in four)


def test_more_devices_than_there_are_is_one_line(tiny_llama):
  with pytest.raises(errors.UserError, match="--devices=64: there are 8"):
    devices.bench(
      "sft", str(tiny_llama), QUERIES, [1, 64], batch=1, steps=1, **SETTINGS
    )
