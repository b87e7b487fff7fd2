"""Training stages: losses and weights on any mesh, and metrics."""

import collections

import jax
import numpy as np
import pytest

from tests.train import runs
from vpo_jax import errors, stages
from vpo_jax.data import chat
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import weights
from vpo_jax.train import optimizer, sft, step


@pytest.mark.parametrize(
  ("kind", "mesh"),
  [
    pytest.param("sft", {"fsdp": 8}, marks=pytest.mark.slow),
    pytest.param("sft", {"tensor": 2}, marks=pytest.mark.slow),
    pytest.param("dpo", {"data": 8}, marks=pytest.mark.slow),
    pytest.param("sft", runs.MIXED, marks=pytest.mark.slow),
    ("dpo", runs.MIXED),
  ],
  ids=str,
)
def test_a_mesh_gives_what_one_device_gives(
  tmp_path, make_config, unbroken, kind, mesh
):
  one = unbroken(kind, make_config, peak_lr=1e-4)
  stages.run(
    runs.STAGES[kind].STAGE, make_config(kind, mesh=mesh, peak_lr=1e-4), tmp_path
  )
  ours, theirs = runs.metrics(tmp_path, kind), runs.metrics(one, kind)
  assert list(ours) == list(theirs) == list(range(1, 7))
  np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-5)
  # A step moves a weight by 1e-4, wherever its gradient is more than its rounding.
  assert runs.largest_gap(runs.trained(tmp_path, kind), runs.trained(one, kind)) < 1e-5


@pytest.mark.parametrize("kind", [pytest.param("sft", marks=pytest.mark.slow), "dpo"])
def test_micro_batches_do_not_change_the_result(tmp_path, make_config, unbroken, kind):
  stages.run(
    runs.STAGES[kind].STAGE,
    make_config(kind, micro_tokens=96, shapes=3, remat="cheap"),
    tmp_path,
  )
  one = unbroken(kind, make_config)
  ours, theirs = runs.metrics(tmp_path, kind), runs.metrics(one, kind)
  np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-5)


def test_dpo_begins_at_log_2_and_learns(make_config, unbroken):
  workdir = unbroken("dpo", make_config)
  losses = runs.metrics(workdir, "dpo", "eval/loss")
  np.testing.assert_allclose(losses[0], np.log(2), atol=1e-5)
  train = runs.metrics(workdir, "dpo")
  assert train[max(train)] < np.log(2)


def plain_sft(model, path, average):
  """Loss and gradient norm of a file's first 8 rows, one row at a time, in torch."""
  import torch
  import transformers

  chat_format = chat.load(model, decoder_config.read(model).vocab)
  examples, _ = data_examples.read(path, chat_format, "sft", 512)
  policy = transformers.AutoModelForCausalLM.from_pretrained(model)
  sums, lengths = [], []
  for example in examples[:8]:
    response = torch.tensor(example.responses[0].tolist())
    row = torch.tensor([*example.prompt.tolist(), *response.tolist()])
    logps = policy(row[None]).logits[0].log_softmax(-1)[-len(response) - 1 : -1]
    sums.append(-logps.gather(1, response[:, None]).sum())
    lengths.append(len(response))
  assert len(set(lengths)) > 1
  if average == "tokens":
    loss = sum(sums) / sum(lengths)
  else:
    loss = sum(s / n for s, n in zip(sums, lengths, strict=True)) / 8
  loss.backward()
  norm = sum((w.grad**2).sum() for w in policy.parameters()) ** 0.5
  return loss.item(), norm.item()


@pytest.mark.parametrize(
  "average", ["tokens", pytest.param("examples", marks=pytest.mark.slow)]
)
def test_the_sft_loss_is_the_plain_mean(
  tmp_path, make_config, tiny_model, rows, average
):
  """With accumulation over micro-batches, and split over devices too."""
  loss, norm = plain_sft(tiny_model, rows["sft", "train"], average)
  for name, mesh in (("one", None), ("mixed", runs.MIXED)):
    config = make_config(
      "sft", mesh, loss_average=average, micro_tokens=96, shuffle=False, epochs=1
    )
    stages.run(sft.STAGE, config, tmp_path / name)
    np.testing.assert_allclose(runs.metrics(tmp_path / name, "sft")[1], loss, rtol=1e-4)
    norms = runs.metrics(tmp_path / name, "sft", "grad_norm")
    np.testing.assert_allclose(norms[1], norm, rtol=1e-3)


def test_a_step_is_a_share_of_the_measured_matmul_rate(tmp_path, make_config):
  """The rate is measured once, when the run begins, if the config asks for it.

  The share is not bounded by one: a rate measured on a busy machine is too low.
  """
  config = make_config("sft", epochs=1, measure_matmul_rate=True)
  stages.run(sft.STAGE, config, tmp_path)
  done = runs.metrics(tmp_path, "sft", "model_flops_per_second")
  shares = runs.metrics(tmp_path, "sft", "fraction_of_matmul_rate")
  assert all(share > 0 for share in shares.values())
  measured = [done[step] / shares[step] for step in done]
  np.testing.assert_allclose(measured, measured[0])


def test_metrics_have_trls_names(make_config, unbroken):
  names = {
    *("loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected"),
    *("rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"),
  }
  workdir = unbroken("dpo", make_config)
  for name in names:
    assert list(runs.metrics(workdir, "dpo", name)) == [1, 2, 3, 4, 5, 6], name


def test_sft_learns(make_config, unbroken):
  losses = runs.metrics(unbroken("sft", make_config), "sft", "eval/loss")
  assert losses[max(losses)] < losses[0]


def test_finished_work_is_not_done_again(make_config, unbroken):
  workdir = unbroken("sft", make_config)
  before = (workdir / "train_sft" / "metrics.jsonl").stat().st_mtime_ns
  counts = stages.run(sft.STAGE, make_config("sft"), workdir)
  assert counts["steps"] == 6
  assert (workdir / "train_sft" / "metrics.jsonl").stat().st_mtime_ns == before


def test_another_config_is_refused(make_config, unbroken):
  workdir = unbroken("sft", make_config)
  with pytest.raises(errors.UserError, match="batch_size was 8 and is now 4"):
    stages.run(sft.STAGE, make_config("sft", batch_size=4), workdir)


def test_each_device_holds_its_part(make_config, tiny_model):
  from vpo_jax.decoder import sharding

  wanted, config = make_config("sft", mesh={"fsdp": 8}), decoder_config.read(tiny_model)
  placement = sharding.place(config, sharding.make_mesh(wanted.mesh))
  params = weights.load(tiny_model, config, placement.params)
  matrix = params["layers"]["gate"]
  assert {s.data.nbytes for s in matrix.addressable_shards} == {matrix.nbytes // 8}
  state = step.init(params, optimizer.make(wanted.optimizer, 10), placement)
  for part in (state.params, state.opt_state):
    leaves = jax.tree.leaves(part)
    replicated = [leaf for leaf in leaves if leaf.is_fully_replicated]
    # Only the norms' weights, which are small, are on every device.
    assert sum(leaf.nbytes for leaf in replicated) < 0.02 * sum(
      leaf.nbytes for leaf in leaves
    )
    leaves = [leaf for leaf in leaves if not leaf.is_fully_replicated]
    assert sum(leaf.nbytes for leaf in leaves) > 4 * 32 * 1024
    held = collections.Counter()
    for shard in (s for leaf in leaves for s in leaf.addressable_shards):
      held[shard.device] += shard.data.nbytes
    share = np.array([*held.values()]) / sum(leaf.nbytes for leaf in leaves)
    np.testing.assert_allclose(share, 1 / 8, rtol=1e-3)
