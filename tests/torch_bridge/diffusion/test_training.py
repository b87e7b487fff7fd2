"""Runs of training: what they write, and that interruptions change nothing."""

import json
import os
import signal
import socket
import subprocess
import sys

import diffusers
import mini
import pytest
import safetensors.torch
import torch

from tests import waiting
from torch_bridge import contract
from torch_bridge.diffusion import data, encoder, loop, policy, processes
from torch_bridge.renderers import base
from torch_bridge.renderers import diffusers as rendering

STEPS = mini.TRAINING["steps"]


def _trainer(folder, pairs, source=None, **changes):
  job = mini.write_job(folder, *pairs, **changes)
  return loop.Trainer(job, folder, processes.accelerator(job), source)


def _run(folder, pairs, source=None, **changes):
  """A whole run in this process; returns its trainer."""
  trainer = _trainer(folder, pairs, source, **changes)
  assert trainer.run(trainer._training["steps"], lambda: False)
  return trainer


def _start(folder, until=STEPS, **environment):
  command = [sys.executable, "-m", "torch_bridge", "train"]
  return subprocess.Popen(
    [*command, f"--job={folder}/job.json", f"--until={until}"],
    env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _weights(folder, step=STEPS):
  """The trained LoRA, by name."""
  path = folder / loop.OUTPUT / f"{step:07d}" / policy.LORA_FILE
  return safetensors.torch.load_file(path)


def _equal(one, two):
  assert one.keys() == two.keys()
  assert all(torch.equal(one[name], two[name]) for name in one)


def _rows(folder):
  rows = (folder / "metrics.jsonl").read_text().splitlines()
  return [json.loads(row) for row in rows]


@pytest.fixture(scope="module")
def unbroken(pairs, tmp_path_factory):
  folder = tmp_path_factory.mktemp("unbroken")
  _run(folder, pairs)
  return folder


def test_the_model_learns_its_pairs(unbroken):
  rows = _rows(unbroken)
  assert [row["step"] for row in rows] == [*range(1, STEPS + 1), STEPS]
  assert rows[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
  assert rows[STEPS - 1]["loss"] < 0.6
  assert all(row["accuracy"] == 1 for row in rows[3:STEPS])
  assert {"heldout_accuracy", "heldout_margin"} <= rows[-1].keys()
  assert list((unbroken / "tensorboard").iterdir())


def test_encoded_pairs_train_like_videos_that_are_encoded_each_time(
  pairs, unbroken, tmp_path
):
  """The stored tensors are those that the VAE and the text encoder give."""
  store, rows = pairs
  task = encoder.make(store, {"model": mini.MODEL, "settings": mini.SETTINGS})
  texts, paths = mini.write_clips(contract.Store(tmp_path / "again"), 12)
  videos, prompts = {}, {}
  for k, row in enumerate(rows):
    prompts[row.prompt] = texts[k]
    videos |= {row.chosen: paths[2 * k], row.rejected: paths[2 * k + 1]}

  class Uncached(data.Source):
    def latents(self, request_id):
      path = tmp_path / "again" / videos[request_id]
      return task._encoder.video(encoder.read_frames(path, mini.SETTINGS))

    def text(self, request_id):
      return task._encoder.prompt(prompts[request_id])

  _run(tmp_path / "run", pairs, Uncached(store))
  _equal(_weights(tmp_path / "run"), _weights(unbroken))


def test_a_run_that_stops_and_continues_ends_where_an_unbroken_one_does(
  pairs, unbroken, tmp_path
):
  trainer = _trainer(tmp_path, pairs)
  asked = []
  stop_at = 3  # between two regular checkpoints
  assert not trainer.run(STEPS, lambda: bool(asked.append(1)) or len(asked) == stop_at)
  assert trainer.step == stop_at
  again = _run(tmp_path, pairs)
  assert again.step == STEPS
  _equal(_weights(tmp_path), _weights(unbroken))
  without_time = [
    [{k: v for k, v in row.items() if k != "seconds"} for row in _rows(folder)]
    for folder in (tmp_path, unbroken)
  ]
  assert without_time[0] == without_time[1]
  # A finished run does nothing more.
  before = (tmp_path / loop.OUTPUT / f"{STEPS:07d}" / policy.LORA_FILE).stat()
  _run(tmp_path, pairs)
  after = (tmp_path / loop.OUTPUT / f"{STEPS:07d}" / policy.LORA_FILE).stat()
  assert after.st_mtime_ns == before.st_mtime_ns


@pytest.mark.slow
def test_a_run_that_is_killed_ends_where_an_unbroken_one_does(
  pairs, unbroken, tmp_path
):
  """SIGKILL in the middle, then SIGTERM, then to the end."""
  mini.write_job(tmp_path, *pairs, checkpoint_every=2)
  metrics = tmp_path / "metrics.jsonl"
  for number, steps in ((signal.SIGKILL, 3), (signal.SIGTERM, 6)):
    process = _start(tmp_path)
    waiting.until(
      lambda steps=steps: (
        metrics.exists() and len(metrics.read_text().splitlines()) >= steps
      ),
      lambda process=process: process.poll() is None,
      lambda process=process: process.communicate()[0],
    )
    process.send_signal(number)
    output, _ = process.communicate(timeout=waiting.LIMIT_S)
    wanted = contract.EXIT_SAVED if number == signal.SIGTERM else -number
    assert process.returncode == wanted, output
  last = _start(tmp_path)
  output, _ = last.communicate(timeout=waiting.LIMIT_S)
  assert last.returncode == 0, output
  _equal(_weights(tmp_path), _weights(unbroken))


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True], ids=["ddp", "fsdp"])
def test_two_processes_train_like_one(pairs, unbroken, tmp_path, shard):
  """By gloo; each has one of the two pairs of a step."""
  mini.write_job(tmp_path, *pairs, shard=shard)
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    port = str(found.getsockname()[1])
  places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
  started = [
    _start(tmp_path, **places, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in (0, 1)
  ]
  for process in started:
    output, _ = process.communicate(timeout=waiting.LIMIT_S)
    assert process.returncode == 0, output
  mine, theirs = _weights(tmp_path), _weights(unbroken)
  if shard:  # sums in another order
    for name, value in theirs.items():
      torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-5)
  else:
    _equal(mine, theirs)


def test_accumulation_and_checkpointing_change_nothing(pairs, unbroken, tmp_path):
  """Two pairs at a time, and activations computed again in the backward pass."""
  found = _run(tmp_path, pairs, micro_batch=2, gradient_checkpointing=True, steps=STEPS)
  assert found.micro == 2
  for name, value in _weights(unbroken).items():
    torch.testing.assert_close(_weights(tmp_path)[name], value, rtol=1e-3, atol=1e-5)


def test_a_pipeline_reads_the_lora_with_its_alpha(pairs, unbroken, tmp_path):
  """The loaded LoRA predicts what the trained transformer does; alpha is not rank."""
  trainer = _trainer(unbroken, pairs)
  assert trainer.step == STEPS
  pipe = rendering.load(mini.MODEL, mini.SETTINGS, {})
  inputs = {
    "hidden_states": torch.randn(1, 9, 3, 32, 32),
    "encoder_hidden_states": torch.randn(1, 56, 128),
    "timestep": torch.tensor([500]),
  }
  with torch.no_grad():
    before = pipe.transformer(**inputs).sample
    pipe.load_lora_weights(unbroken / loop.OUTPUT / f"{STEPS:07d}")
    loaded = pipe.transformer(**inputs).sample
    trained = trainer.policy.module(**inputs).sample
  torch.testing.assert_close(loaded, trained)
  assert (loaded - before).abs().max() > 1e-3


def test_the_same_weights_are_the_same_file_in_every_process(unbroken):
  """Sets and safetensors' metadata have an order that changes with each process."""
  path = unbroken / loop.OUTPUT / f"{STEPS:07d}" / policy.LORA_FILE
  content = path.read_bytes()
  size = int.from_bytes(content[:8], "little")
  assert size % 8 == 0
  header = content[8 : 8 + size].decode()
  assert header.rstrip() == json.dumps(json.loads(header), sort_keys=True)
  with safetensors.safe_open(path, framework="pt") as file:
    stored = json.loads(file.metadata()["lora_adapter_metadata"])
  assert stored["transformer.target_modules"] == sorted(mini.TRAINING["targets"])
  assert stored["transformer.lora_alpha"] == mini.TRAINING["alpha"]


def test_full_training_writes_a_transformer_and_starts_at_log_2(pairs, tmp_path):
  _run(tmp_path, pairs, method="full", peak_lr=1e-5, steps=3)
  rows = _rows(tmp_path)
  assert rows[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
  assert rows[2]["margin"] > 0
  made = diffusers.CogVideoXTransformer3DModel.from_pretrained(
    tmp_path / loop.OUTPUT / "0000003" / "transformer"
  )
  base_model = diffusers.CogVideoXTransformer3DModel.from_pretrained(
    mini.MODEL, subfolder="transformer"
  )
  moved = [
    (one.float() - two.float()).abs().max().item()
    for one, two in zip(made.parameters(), base_model.parameters(), strict=True)
  ]
  assert 0 < max(moved) < 1e-3


def test_bfloat16_keeps_adapters_and_optimizer_in_float32(pairs, tmp_path):
  trainer = _run(tmp_path, pairs, precision="bfloat16", steps=2)
  assert {one.dtype for one in trainer.policy.trainable()} == {torch.float32}
  frozen = [one for one in trainer.policy.module.parameters() if not one.requires_grad]
  assert {one.dtype for one in frozen} == {torch.bfloat16}
  moments = [state["exp_avg"].dtype for state in trainer._plain.state.values()]
  assert set(moments) == {torch.float32}
  rows = _rows(tmp_path)
  assert rows[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
  assert rows[1]["change_rejected"] != 0


def test_lora_targets_that_do_not_exist_are_one_line(pairs, tmp_path):
  with pytest.raises(base.ModelError) as caught:
    _trainer(tmp_path, pairs, targets=["to_q", "q_proj", "attention.wq"])
  line = str(caught.value)
  assert line.startswith("LoRA targets q_proj, attention.wq do not exist; this model")
  assert "to_out.0" in line
  assert "to_k" in line


def test_a_batch_that_the_processes_cannot_share_is_one_line():
  assert processes.share(8, 2) == 4
  with pytest.raises(base.ModelError, match="batch_size=3 is not a multiple of the 2"):
    processes.share(3, 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit in Linux's way")
def test_too_little_memory_halves_the_batch_and_says_so_once(pairs, tmp_path):
  """The allocator fails, in a process with a memory limit."""
  rows = pairs[1] * 12
  mini.write_job(tmp_path, pairs[0], rows, batch_size=64, micro_batch=64, steps=2)
  code = (
    "import sys, limited_training; sys.exit(limited_training.main("
    f"'{tmp_path}/job.json', 500))"
  )
  folder = os.path.dirname(__file__)
  ended = subprocess.run(
    [sys.executable, "-c", code],
    env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{folder}:{os.getcwd()}"},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr
  assert ended.stdout.count("train: out of memory with 64 pairs at a time: ") == 1
  assert len(_rows(tmp_path)) == 3


def test_the_renderer_applies_a_lora_at_its_scale(pairs, unbroken):
  path = str(unbroken / loop.OUTPUT / f"{STEPS:07d}")
  request = contract.render_request("red circle", mini.MODEL, mini.SETTINGS, 0)
  settings = mini.SETTINGS | {"num_inference_steps": 2}

  def frames(lora):
    spec = {"model": mini.MODEL, "settings": settings, "lora": lora}
    return rendering.make(spec).render([request], lambda: None)[0].frames

  plain, whole = frames({}), frames({"path": path, "scale": 1.0})
  half, none = (frames({"path": path, "scale": scale}) for scale in (0.5, 0.0))
  assert abs(none - plain).max() == 0
  assert 0 < abs(half - plain).mean() < abs(whole - plain).mean()


def test_a_lora_of_another_model_is_one_line(unbroken, tmp_path):
  weights = _weights(unbroken)
  shorter = {name: value[..., :-1].contiguous() for name, value in weights.items()}
  other = {f"transformer.other.{k}.lora_A.weight": torch.ones(4, 4) for k in range(2)}
  for name, content in (("shape", shorter), ("names", other)):
    folder = tmp_path / name
    folder.mkdir()
    safetensors.torch.save_file(content, folder / policy.LORA_FILE)
    spec = {"model": mini.MODEL, "settings": mini.SETTINGS}
    with pytest.raises(base.ModelError, match="cannot be loaded as a LoRA") as caught:
      rendering.make(spec | {"lora": {"path": str(folder), "scale": 1.0}})
    assert "\n" not in str(caught.value)
