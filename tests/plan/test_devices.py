"""One step on several numbers of devices: launch/bench.py --devices."""

import pytest

from vpo_jax import errors
from vpo_jax.plan import devices

QUERIES = [f"{count} cats on skateboards" for count in range(16)]
SETTINGS = {"precision": "float32", "micro_tokens": 512, "remat": "none"}


@pytest.mark.slow
def test_host_devices_report_losses_and_bytes_but_no_speed(tiny_model):
  result = devices.bench(
    "sft", str(tiny_model), QUERIES, [1, 4], batch=2, steps=1, **SETTINGS
  )
  one, four = result["devices"]
  assert one["batch"] == four["batch"] == 8
  assert len(one["losses"]) == 2
  assert one["loss_gap"] == 0
  assert four["loss_gap"] < 1e-5
  # Weights and both moments are sharded; what is replicated (norms) is small.
  assert four["state_bytes"] == pytest.approx(one["state_bytes"] / 4, rel=0.01)
  assert not one["sent_bytes"]
  weights = one["state_bytes"] / 3
  # FSDP gathers the weights; the tied head counts once.
  assert four["sent_bytes"]["all-gather"] > 0.7 * weights
  assert "no speed" in result["note"]
  assert not any("second" in key for key in four)


def test_too_many_devices_are_a_user_error(tiny_model):
  with pytest.raises(errors.UserError, match="--devices=64: only 8 devices"):
    devices.bench(
      "sft", str(tiny_model), QUERIES, [1, 64], batch=1, steps=1, **SETTINGS
    )
