"""Training stages: meshes, micro-batches and resumption."""

import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from vpo_jax import errors, stages
from vpo_jax.data import chat
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import weights
from vpo_jax.runtime import preemption
from vpo_jax.train import checkpoint, dpo, optimizer, sft, step

STAGES = {"sft": sft, "dpo": dpo}
MIXED = {"data": 2, "fsdp": 2, "tensor": 2}


def metrics(workdir, kind, name="loss"):
  rows = (workdir / f"train_{kind}" / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(row) for row in rows]
  return {row["step"]: row[name] for row in rows if name in row}


def trained(workdir, kind):
  folder = workdir / f"train_{kind}" / "model"
  return weights.load(folder, decoder_config.read(folder))


def state(workdir, kind):
  """Everything that the last checkpoint holds: weights, optimizer, step."""
  with checkpoint.open_in(workdir / f"train_{kind}", keep=2) as checkpoints:
    last = checkpoints.latest()
  saved = workdir / f"train_{kind}" / "checkpoints" / str(last) / "default"
  return jax.tree.map(np.asarray, ocp.StandardCheckpointer().restore(saved))


def largest_gap(a, b):
  return max(
    float(np.abs(x - y).max())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, tiny_model, rows):
  """Runs of both stages on one device, that others are compared with."""
  done = {}

  def get(kind, make_config, **changes):
    key = (kind, *changes.items())
    if key not in done:
      done[key] = tmp_path_factory.mktemp(f"unbroken_{kind}")
      stages.run(STAGES[kind].STAGE, make_config(kind, **changes), done[key])
    return done[key]

  return get


@pytest.mark.parametrize(
  ("kind", "mesh"),
  [
    ("sft", {"fsdp": 8}),
    ("sft", {"tensor": 2}),
    ("dpo", {"data": 8}),
    ("sft", MIXED),
    ("dpo", MIXED),
  ],
  ids=str,
)
def test_a_mesh_gives_what_one_device_gives(
  tmp_path, make_config, unbroken, kind, mesh
):
  one = unbroken(kind, make_config, peak_lr=1e-4)
  stages.run(STAGES[kind].STAGE, make_config(kind, mesh=mesh, peak_lr=1e-4), tmp_path)
  ours, theirs = metrics(tmp_path, kind), metrics(one, kind)
  assert list(ours) == list(theirs) == list(range(1, 7))
  np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-5)
  # A step moves a weight by 1e-4, wherever its gradient is more than its rounding.
  assert largest_gap(trained(tmp_path, kind), trained(one, kind)) < 1e-5


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_micro_batches_do_not_change_the_result(tmp_path, make_config, unbroken, kind):
  stages.run(
    STAGES[kind].STAGE,
    make_config(kind, micro_tokens=96, shapes=3, remat="cheap"),
    tmp_path,
  )
  one = unbroken(kind, make_config)
  ours, theirs = metrics(tmp_path, kind), metrics(one, kind)
  np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-5)


def test_dpo_begins_at_log_2_and_learns(make_config, unbroken):
  workdir = unbroken("dpo", make_config)
  losses = metrics(workdir, "dpo", "eval/loss")
  np.testing.assert_allclose(losses[0], np.log(2), atol=1e-5)
  train = metrics(workdir, "dpo")
  assert train[max(train)] < np.log(2)


def plain_sft(model, path, average):
  """Loss and gradient norm of a file's first 8 rows, one row at a time, in torch."""
  import torch
  import transformers

  tokenizer = chat.load_tokenizer(model)
  examples, _ = data_examples.read(path, tokenizer, "sft", 512)
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


@pytest.mark.parametrize("average", ["tokens", "examples"])
def test_the_sft_loss_is_the_plain_mean(
  tmp_path, make_config, tiny_model, rows, average
):
  """With accumulation over micro-batches, and split over devices too."""
  loss, norm = plain_sft(tiny_model, rows["sft", "train"], average)
  for name, mesh in (("one", None), ("mixed", MIXED)):
    config = make_config(
      "sft", mesh, loss_average=average, micro_tokens=96, shuffle=False, epochs=1
    )
    stages.run(sft.STAGE, config, tmp_path / name)
    np.testing.assert_allclose(metrics(tmp_path / name, "sft")[1], loss, rtol=1e-4)
    norms = metrics(tmp_path / name, "sft", "grad_norm")
    np.testing.assert_allclose(norms[1], norm, rtol=1e-3)


def test_a_step_is_a_share_of_the_measured_matmul_rate(tmp_path, make_config):
  """The rate is measured once, when the run begins, if the config asks for it.

  The share is not bounded by one: a rate measured on a busy machine is too low.
  """
  config = make_config("sft", epochs=1, measure_matmul_rate=True)
  stages.run(sft.STAGE, config, tmp_path)
  done = metrics(tmp_path, "sft", "model_flops_per_second")
  shares = metrics(tmp_path, "sft", "fraction_of_matmul_rate")
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
    assert list(metrics(workdir, "dpo", name)) == [1, 2, 3, 4, 5, 6], name


def test_sft_learns(make_config, unbroken):
  losses = metrics(unbroken("sft", make_config), "sft", "eval/loss")
  assert losses[max(losses)] < losses[0]


def start(workdir, kind, config, before=""):
  """Runs the stage in a process of its own, after the lines `before`."""
  script = workdir / "train.py"
  script.write_text(
    "import json, sys, ml_collections\n"
    "from vpo_jax import stages\n"
    f"from vpo_jax.train import {kind}\n{before}\n"
    "config = ml_collections.ConfigDict(json.loads(sys.argv[1]))\n"
    f"stages.run({kind}.STAGE, config, sys.argv[2])\n"
  )
  return subprocess.Popen(
    [sys.executable, script, config.to_json(), workdir],
    cwd=pathlib.Path(__file__).parents[2],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_killed_and_run_again_it_ends_the_same(tmp_path, make_config, unbroken, kind):
  """SIGKILL after the first checkpoint; the second run ends to the bit as one run."""
  config = make_config(kind)
  kill_after_checkpoint(start(tmp_path, kind, config), tmp_path, kind, 2)
  stages.run(STAGES[kind].STAGE, config, tmp_path)
  assert_ends_as(tmp_path, unbroken(kind, make_config), kind)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_continued_with_other_execution_keys_it_ends_the_same(
  tmp_path, make_config, unbroken, kind
):
  """Killed after a checkpoint, then continued with less memory on other devices."""
  process = start(tmp_path, kind, make_config(kind, peak_lr=1e-4))
  kill_after_checkpoint(process, tmp_path, kind, 2)
  other = make_config(kind, mesh=MIXED, peak_lr=1e-4, micro_tokens=128, remat="full")
  stages.run(STAGES[kind].STAGE, other, tmp_path)
  one = unbroken(kind, make_config, peak_lr=1e-4)
  ours, theirs = metrics(tmp_path, kind), metrics(one, kind)
  assert list(ours) == list(theirs) == list(range(1, 7))
  np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-5)
  assert largest_gap(trained(tmp_path, kind), trained(one, kind)) < 1e-5


def kill_after_checkpoint(process, workdir, kind, step):
  """SIGKILL as soon as the step's checkpoint is complete."""
  checkpoint_folder = workdir / f"train_{kind}" / "checkpoints" / str(step)
  deadline = time.monotonic() + 240
  while not checkpoint_folder.exists() and time.monotonic() < deadline:
    assert process.poll() is None, "ended before it could be killed"
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert not (workdir / f"train_{kind}" / "model").exists()


def test_a_checkpoint_cut_short_is_never_chosen(tmp_path, make_config, unbroken):
  """SIGKILL while step 4 is being saved; step 3 was, for it was the best so far.

  Saves are not waited for, as on accelerators: so one can be cut.
  """
  config = make_config("sft")
  process = start(
    tmp_path,
    "sft",
    config,
    "import os, signal\n"
    "from vpo_jax.train import checkpoint\n"
    "checkpoint.Checkpoints.wait = lambda self: None\n"
    "save = checkpoint.Checkpoints.save\n"
    "def cut(self, step, state, loss):\n"
    "  save(self, step, state, loss)\n"
    "  if step == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
    "checkpoint.Checkpoints.save = cut\n",
  )
  assert process.wait(timeout=120) == -signal.SIGKILL
  left = {path.name for path in (tmp_path / "train_sft" / "checkpoints").iterdir()}
  assert left > {"2", "3"}, "nothing of step 4: nothing is shown"
  with checkpoint.open_in(tmp_path / "train_sft", keep=2) as checkpoints:
    assert checkpoints.latest() == 3
  stages.run(sft.STAGE, config, tmp_path)
  assert_ends_as(tmp_path, unbroken("sft", make_config), "sft")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_killed_at_random_it_ends_the_same(tmp_path, make_config, unbroken, kind):
  """Five times, wherever it is: in a step, a checkpoint, a row of the metrics."""
  seed = random.SystemRandom().randrange(2**32)
  print(f"seed {seed}")
  rng, config = random.Random(seed), make_config(kind)
  log = tmp_path / f"train_{kind}" / "metrics.jsonl"
  slowly = (
    "import time\n"
    "from vpo_jax.runtime import watchdog\n"
    "step = watchdog.Watch.step\n"
    "def slowly(self, name):\n"
    "  time.sleep(0.2)\n"
    "  step(self, name)\n"
    "watchdog.Watch.step = slowly\n"
  )
  for _ in range(5):
    began = time.time_ns()
    process = start(tmp_path, kind, config, slowly)
    while process.poll() is None and not _written_since(log, began):
      time.sleep(0.01)
    time.sleep(rng.uniform(0, 1))
    process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
  stages.run(STAGES[kind].STAGE, config, tmp_path)
  assert_ends_as(tmp_path, unbroken(kind, make_config), kind)


def _written_since(path, nanoseconds):
  return path.exists() and path.stat().st_mtime_ns > nanoseconds


def assert_ends_as(ours, theirs, kind):
  """To the bit, with no step's row missing or doubled."""
  lines = (ours / f"train_{kind}" / "metrics.jsonl").read_text().splitlines()
  losses = [row["step"] for row in map(json.loads, lines) if "loss" in row]
  assert losses == list(range(1, 7))
  for name in ("loss", "eval/loss"):
    assert metrics(ours, kind, name) == metrics(theirs, kind, name)
  assert largest_gap(trained(ours, kind), trained(theirs, kind)) == 0
  ends = [state(workdir, kind) for workdir in (ours, theirs)]
  assert set(ends[0]) == {"step", "params", "opt_state"}
  assert largest_gap(*ends) == 0


def test_sigterm_saves_and_says_so(tmp_path, make_config, unbroken):
  """The signal comes in step 5, which is saved by no other rule."""
  config = make_config("sft")
  process = start(
    tmp_path,
    "sft",
    config,
    "import os, signal\n"
    "from vpo_jax.runtime import watchdog\n"
    "step = watchdog.Watch.step\n"
    "def then_sigterm(self, name):\n"
    "  step(self, name)\n"
    "  if name == 'step 5': os.kill(os.getpid(), signal.SIGTERM)\n"
    "watchdog.Watch.step = then_sigterm\n",
  )
  assert process.wait(timeout=120) == preemption.EXIT_CODE
  assert not (tmp_path / "train_sft" / "model").exists()
  with checkpoint.open_in(tmp_path / "train_sft", keep=2) as checkpoints:
    assert checkpoints.latest() == 5
  stages.run(sft.STAGE, config, tmp_path)
  assert_ends_as(tmp_path, unbroken("sft", make_config), "sft")


def test_the_best_checkpoint_outlives_the_last_ones(tmp_path, make_config):
  """A rate that is too high makes the model worse in the third step."""
  config = make_config("sft", eval_every=1, keep_checkpoints=1, epochs=1)
  config.optimizer.update(peak_lr=3.0)
  stages.run(sft.STAGE, config, tmp_path)
  losses = metrics(tmp_path, "sft", "eval/loss")
  del losses[0]
  best = min(losses, key=lambda step: losses[step])
  assert best != max(losses), "the last step is the best: nothing is shown"
  with checkpoint.open_in(tmp_path / "train_sft", keep=1) as checkpoints:
    assert checkpoints.latest() == max(losses)
    assert checkpoints.best() == best
  kept = (tmp_path / "train_sft" / "checkpoints").iterdir()
  assert sorted(int(path.name) for path in kept) == sorted({best, max(losses)})


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("empty", [True, False], ids=["empty file", "no file"])
def test_without_held_out_rows_nothing_is_evaluated(
  tmp_path, make_config, rows, unbroken, kind, empty
):
  """The training is the same, and the last checkpoints are kept."""
  config = make_config(kind, keep_checkpoints=1)
  config.train = config.heldout = ""
  source = tmp_path / {"sft": "build_sft", "dpo": "merge_pairs"}[kind]
  source.mkdir()
  (source / "train.json").write_text(rows[kind, "train"].read_text())
  if empty:
    (source / "heldout.json").write_text("[]")
  counts = stages.run(STAGES[kind].STAGE, config, tmp_path)
  assert counts["heldout"] == 0
  assert counts["loss_before"] is counts["loss_after"] is None
  assert not metrics(tmp_path, kind, "eval/loss")
  assert metrics(tmp_path, kind) == metrics(unbroken(kind, make_config), kind)
  assert (
    largest_gap(trained(tmp_path, kind), trained(unbroken(kind, make_config), kind))
    == 0
  )
  kept = (tmp_path / f"train_{kind}" / "checkpoints").iterdir()
  assert [path.name for path in kept] == ["6"]


def test_a_held_out_file_that_is_named_must_exist(tmp_path, make_config):
  config = make_config("sft", heldout=str(tmp_path / "none.json"))
  with pytest.raises(errors.UserError, match=r"heldout=.*none\.json: no such file"):
    stages.run(sft.STAGE, config, tmp_path)


TEMPLATE = "Rewrite this query as a prompt. Query: {query} Prompt:"  # of the rows


def stored_instruction(folder):
  return (folder / "instruction.txt").read_text()


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_rows_instruction_is_stored_with_the_model(
  tmp_path, make_config, rows, kind
):
  """From the file beside the rows; one that does not fit the rows is refused."""
  beside, mine = tmp_path / "rows", tmp_path / "mine.txt"
  beside.mkdir()
  (beside / "instruction.txt").write_text(TEMPLATE)
  (beside / "train.json").write_text(rows[kind, "train"].read_text())
  config = make_config(kind, epochs=1)
  config.train = str(beside / "train.json")
  stages.run(STAGES[kind].STAGE, config, tmp_path)
  assert stored_instruction(tmp_path / f"train_{kind}" / "model") == TEMPLATE
  mine.write_text("Another: {query}")
  config.instruction = str(mine)
  with pytest.raises(errors.UserError, match=r"matches the template .*mine\.txt"):
    stages.run(STAGES[kind].STAGE, config, tmp_path / "other")


def test_the_instruction_may_be_named_by_the_config(tmp_path, make_config):
  mine = tmp_path / "mine.txt"
  mine.write_text(TEMPLATE)
  config = make_config("sft", epochs=1, instruction=str(mine))
  config.lora.rank = 2
  stages.run(sft.STAGE, config, tmp_path)
  assert stored_instruction(tmp_path / "train_sft" / "model") == TEMPLATE
  mine.write_text(TEMPLATE + " ")
  with pytest.raises(errors.UserError, match=r"its input instruction .* has changed"):
    stages.run(sft.STAGE, config, tmp_path)


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


def test_the_last_good_checkpoint_outlives_a_loss_that_is_not_finite(
  tmp_path, make_config, unbroken, monkeypatch
):
  """The fifth update ruins the weights; mended, the run ends as if it had not."""
  healthy = optimizer.schedule

  def ruinous(config, steps):
    rate = healthy(config, steps)
    return lambda step: jnp.where(step == 4, jnp.inf, rate(step))

  monkeypatch.setattr(optimizer, "schedule", ruinous)
  with pytest.raises(errors.UserError, match="step 6: loss nan"):
    stages.run(sft.STAGE, make_config("sft", keep_checkpoints=1), tmp_path)
  with checkpoint.open_in(tmp_path / "train_sft", keep=1) as checkpoints:
    assert checkpoints.latest() == 4
  monkeypatch.setattr(optimizer, "schedule", healthy)
  stages.run(sft.STAGE, make_config("sft", keep_checkpoints=1), tmp_path)
  assert_ends_as(tmp_path, unbroken("sft", make_config), "sft")
