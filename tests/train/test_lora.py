"""LoRA: adapters are trained beside frozen weights, and leave as PEFT reads them."""

import json

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import peft
import pytest
import torch
import transformers

from tests.train import runs
from vpo_jax import errors, stages
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import lora as loras
from vpo_jax.decoder import weights
from vpo_jax.train import checkpoint, dpo, loop, sft

LORA = {"rank": 4, "alpha": 8.0, "targets": ("q", "v", "o", "down")}


@pytest.fixture
def adapted(make_config):
  def make(kind, **changes):
    config = make_config(kind, **changes)
    config.lora.update(LORA)
    return config

  return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """The workdir of a DPO run with LoRA."""
  done = []

  def get(config):
    if not done:
      done.append(tmp_path_factory.mktemp("lora"))
      stages.run(dpo.STAGE, config, done[0])
    return done[0]

  return get


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_loads_the_adapter_with_the_merged_models_logits(
  adapted, trained, tiny_model
):
  folder = trained(adapted("dpo")) / "train_dpo"
  base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
  tokens = torch.arange(40)[None]
  with torch.no_grad():
    before = base(tokens).logits
    merged = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
    with_adapter = peft.PeftModel.from_pretrained(base, folder / "adapter")
    torch.testing.assert_close(
      with_adapter(tokens).logits, merged(tokens).logits, atol=1e-5, rtol=1e-4
    )
  assert not torch.allclose(before, merged(tokens).logits, atol=1e-5)


def test_only_the_adapters_are_kept_and_only_targets_change(
  adapted, trained, tiny_model
):
  folder = trained(adapted("dpo")) / "train_dpo"
  config = decoder_config.read(tiny_model)
  before, after = (
    weights.load(tiny_model, config),
    weights.load(folder / "model", config),
  )
  changed = {
    name
    for name, weight in before["layers"].items()
    if not np.array_equal(weight, after["layers"][name])
  }
  assert changed == set(LORA["targets"])
  np.testing.assert_array_equal(before["embed"], after["embed"])
  # Each checkpoint's parameters are the adapters alone.
  with checkpoint.open_in(folder, keep=2) as checkpoints:
    last = checkpoints.latest()
  saved = folder / "checkpoints" / str(last) / "default"
  state = ocp.StandardCheckpointer().restore(saved)
  assert set(state["params"]) == set(LORA["targets"])


def test_dpo_begins_at_the_base_weights(adapted, trained):
  workdir = trained(adapted("dpo"))
  losses = runs.metrics(workdir, "dpo", "eval/loss")
  np.testing.assert_allclose(losses[0], np.log(2), atol=1e-5)
  assert losses[max(losses)] < losses[0]


@pytest.mark.slow
def test_a_mesh_gives_what_one_device_gives(tmp_path, adapted, trained):
  mesh = {"data": 2, "fsdp": 2, "tensor": 2}
  stages.run(dpo.STAGE, adapted("dpo", mesh=mesh), tmp_path)
  ours, theirs = (
    list(runs.metrics(w, "dpo").values()) for w in (tmp_path, trained(adapted("dpo")))
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_was_cut_ends_the_same(tmp_path, adapted, trained, monkeypatch):
  """Cut off before the last step; a checkpoint was made after the fourth of six."""
  config, feed = adapted("dpo"), loop.Feed.__call__

  def cut(self, step):
    if step == 5:
      raise KeyboardInterrupt
    return feed(self, step)

  with monkeypatch.context() as patched:
    patched.setattr(loop.Feed, "__call__", cut)
    with pytest.raises(KeyboardInterrupt):
      stages.run(dpo.STAGE, config, tmp_path)
  with checkpoint.open_in(tmp_path / "train_dpo", keep=2) as checkpoints:
    assert checkpoints.latest() == 4
  stages.run(dpo.STAGE, config, tmp_path)
  runs.assert_ends_as(tmp_path, trained(config), "dpo")


@pytest.mark.slow
def test_sft_learns(tmp_path, adapted):
  stages.run(sft.STAGE, adapted("sft"), tmp_path)
  losses = runs.metrics(tmp_path, "sft", "eval/loss")
  assert losses[max(losses)] < losses[0]
  config = json.loads(
    (tmp_path / "train_sft" / "adapter" / "adapter_config.json").read_text()
  )
  assert config["r"] == LORA["rank"]


def test_adapters_lie_on_the_mesh_as_their_matrices_do(tiny_model):
  from vpo_jax.decoder import sharding

  config = decoder_config.read(tiny_model)
  mesh = sharding.make_mesh(
    ml_collections.ConfigDict({"data": 1, "fsdp": 4, "tensor": 2})
  )
  lora = loras.Lora(**LORA)
  shardings = sharding.params(config, mesh, lora.declare(config))
  adapters = lora.init(0, config, shardings)
  q_a, q_b = adapters["q"]["a"], adapters["q"]["b"]
  assert q_a.addressable_shards[0].data.nbytes == q_a.nbytes // 4
  assert q_b.addressable_shards[0].data.nbytes == q_b.nbytes // 2
  alone = lora.init(0, config, jax.tree.map(lambda _: None, shardings))
  assert runs.largest_gap(adapters, alone) == 0


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rank": -1}, "lora.rank=-1"),
    ({"targets": ("q", "mlp")}, "some of q, k, v"),
    ({"alpha": 0.0}, "lora.alpha=0.0"),
  ],
)
def test_values_without_meaning_are_refused(tmp_path, adapted, changes, message):
  config = adapted("sft")
  config.lora.update(changes)
  with pytest.raises(errors.UserError, match=message):
    stages.run(sft.STAGE, config, tmp_path)
