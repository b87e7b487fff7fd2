"""Predictions from counted work, and the search for a config that fits."""

import json
import pathlib
import subprocess
import sys

import pytest

from configs import dpo, sample, sft
from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import known
from vpo_jax.plan import (
  chips,
  compile_cache,
  fit,
  models,
  predict,
  report,
  sweep,
  worker,
)

MODEL = models.read("llama3-8b")
LENGTHS = models.Lengths()


def compiled(peak=10 * chips.GIB, **changes):
  """A result of `compile_cache.get`."""
  result = {
    "about": {"examples": 16, "mesh": {"data": 1, "fsdp": 8, "tensor": 1}},
    "work": {"flops": 8 * 459e12},
    "memory": {"weights": 4 * chips.GIB, "temporaries": chips.GIB, "peak": peak},
    "cost": {
      "flops": 2 * 459e12,
      "bytes": 2.8e12,
      "collectives": [
        {"kind": "all-gather", "devices": 8, "per_node": 8, "bytes": 2.7e11}
      ],
    },
  }
  return result | changes


def test_times_are_work_divided_by_rates():
  plan = predict.predict(chips.parse("v5p:2x2x2"), compiled())
  # Axes of two chips are not rings: each of the three sends 9e10 bytes/s.
  assert plan.seconds == {"compute": 2.0, "memory": 1.0, "interconnect": 1.0}
  assert (plan.binds, plan.step_seconds, plan.serial_seconds) == ("compute", 2.0, 4.0)
  assert plan.mfu == 0.5
  assert plan.examples_per_second == 8
  run = plan.run(28_800, dollars=None)
  assert run == {"examples": 28_800, "hours": 1.0, "dollars": 8 * 4.20}
  assert "fits" in report.lines("dpo", plan, None)
  assert json.loads(json.dumps(report.json("dpo", plan, 1.0, None)))["fits"]


def test_out_of_memory_in_the_compiler_does_not_fit_and_has_no_time():
  memory = {"peak": 20 * chips.GIB, "capacity": 15.75 * chips.GIB}
  plan = predict.predict(chips.parse("v5e:2x4"), compiled(memory=memory, cost=None))
  assert not plan.fits
  assert "4.25 GiB too much" in "\n".join(report.lines("sft", plan, None))


@pytest.mark.parametrize(
  ("text", "peak"),
  [
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.66G of 15.75G"
     " hbm. Exceeded hbm capacity by 1.91G.", 17.66),
    ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
     " temporaries (17.63G) exceeds available HBM (15.75G).", 17.63),
  ],
)  # fmt: skip
def test_both_out_of_memory_messages_of_libtpu_are_parsed(text, peak):
  found = worker.out_of_memory(text)
  assert found == {"peak": peak * chips.GIB, "capacity": 15.75 * chips.GIB}
  assert worker.out_of_memory("INTERNAL: something else") is None


def test_search_finds_the_first_change_that_fits():
  tried = []

  def compile_step(request):
    config = json.loads(request.json()["config"])
    tried.append((config["remat"], config["micro_tokens"]))
    tokens = config["micro_tokens"]
    fits = config["remat"] == "full" and tokens <= 1024
    return compiled(peak=(1 if fits else 100) * chips.GIB)

  config = sft.get_config()
  config.remat = "none"
  machine = chips.parse("v5p:2x2x2")
  change, _ = fit.search("sft", config, MODEL, LENGTHS, machine, compile_step)
  assert change == {"remat": "full", "micro_tokens": 1024}
  assert tried == [("cheap", 4096), ("full", 4096), ("full", 2048), ("full", 1024)]
  assert config.remat == "none", "the user's config must not change"


def test_sampling_tries_fewer_slots():
  tried = list(fit.changes("sample", sample.get_config(), devices=8))
  assert [t.get("slots") for t in tried[:2]] == [16, 8]
  assert tried[-1]["mesh.tensor"] == 8


def test_weak_scaling_grows_the_batch():
  batches = {}

  def compile_step(request):
    config = json.loads(request.json()["config"])
    batches[request.devices, config["mesh"]["tensor"]] = config["batch_size"]
    return compiled()

  rows = sweep.run(
    *("dpo", dpo.get_config(), MODEL, LENGTHS),
    chips.slices("v5p", [8, 16]),
    "weak",
    compile_step=compile_step,
  )
  assert batches == {(8, 1): 16, (8, 2): 16, (16, 1): 32, (16, 2): 32}
  assert "| 16 | 2 | 8 | 1 |" in sweep.table(rows)


def test_plots_are_a_png(tmp_path):
  rows = sweep.run(
    *("dpo", dpo.get_config(), MODEL, LENGTHS),
    chips.slices("h100", [8, 16]),
    "strong",
    compile_step=lambda request: compiled(),
  )
  sweep.plots(rows, tmp_path / "sweep.png", "title")
  assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
  ("topology", "message"),
  [("v9:2x2", "one of v5e"), ("v5p", "give a TPU's axes"), ("h800:0", "give")],
)
def test_an_invalid_topology_is_a_user_error(topology, message):
  with pytest.raises(errors.UserError, match=message):
    chips.parse(topology)


def test_slices_are_close_to_a_cube():
  shapes = [machine.shape for machine in chips.slices("v5p", [8, 16, 1024])]
  assert shapes == [(2, 2, 2), (2, 2, 4), (8, 8, 16)]
  assert [m.shape for m in chips.slices("v5e", [8, 256])] == [(2, 4), (16, 16)]
  assert [m.shape for m in chips.slices("h100", [64])] == [(64,)]


def test_a_group_over_nodes_also_uses_the_network():
  machine = chips.parse("h100:16")
  assert machine.send_rates(8, per_node=8) == {"interconnect": 450e9}
  assert machine.send_rates(16, per_node=8) == {"interconnect": 450e9, "network": 400e9}
  # One device per node: eight groups share the node's eight ports.
  assert machine.send_rates(2, per_node=1) == {"network": 50e9}


def test_network_and_interconnect_are_two_resources():
  result = compiled()
  result["cost"]["collectives"] += [
    {"kind": "all-reduce", "devices": 2, "per_node": 1, "bytes": 1e11}
  ]
  plan = predict.predict(chips.parse("h100:16"), result)
  assert plan.seconds["interconnect"] == 0.6
  assert plan.seconds["network"] == 2.0


def test_a_permute_uses_both_directions_of_a_ring():
  machine = chips.parse("v5p:2x2x2")
  assert machine.send_rates(2, 2) == {"interconnect": 9e10}
  assert machine.send_rates(2, 2, "collective-permute") == {"interconnect": 2 * 9e10}


def test_an_unknown_model_is_a_user_error():
  with pytest.raises(
    errors.UserError, match="no such directory, and not one of smollm2"
  ):
    models.read("nothing")


def test_compilations_are_cached(tmp_path, monkeypatch):
  monkeypatch.setenv("VPO_JAX_CACHE", str(tmp_path))
  config = sft.get_config()
  config.update(batch_size=8, micro_tokens=512)
  model = decoder_config.parse(
    known.MODELS["smollm2-135m"]
    | {"num_hidden_layers": 2, "vocab_size": 512, "hidden_size": 72}
  )
  request = compile_cache.Request("sft", config, model, LENGTHS, worker.HOST, 2)
  first = compile_cache.get(request)
  assert first["cost"]["flops"] > first["work"]["flops"] / 2
  assert first["about"]["mesh"]["fsdp"] == 2
  assert "HloModule" in compile_cache.text(first["text"])
  with monkeypatch.context() as patch:
    patch.setattr(subprocess, "run", None)  # nothing is started
    assert compile_cache.get(request)["cost"] == first["cost"]
  config.mesh.tensor = 3
  with pytest.raises(errors.UserError, match="3 does not divide 2 devices"):
    compile_cache.get(request)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      ["--topology=v9:2x2"],
      "--topology=v9:2x2: unknown chip; use one of v5e, v5p, v6e, h800",
    ),
    (["--config=configs/curate.py"], "must be the config of one of sft, dpo"),
  ],
)
def test_a_wrong_flag_prints_one_line(arguments, message):
  ran = subprocess.run(
    [sys.executable, "launch/plan.py", *arguments],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    check=False,
  )
  assert ran.returncode == 1
  assert ran.stderr.startswith("error: ")
  assert message in ran.stderr
  assert len(ran.stderr.strip().splitlines()) == 1
