"""Plans: what is predicted from what was counted, and what is tried when it is much."""

import json
import pathlib
import subprocess
import sys

import pytest

from configs import dpo, sample, sft
from vpo_jax import errors
from vpo_jax.plan import chips, compiles, fit, models, predict, report, sweep, worker

MODEL = models.read("llama3-8b")
LENGTHS = models.Lengths()


def compiled(peak=10 * chips.GIB, **changes):
  made = {
    "about": {"examples": 16, "mesh": {"data": 1, "fsdp": 8, "tensor": 1}},
    "work": {"flops": 8 * 459e12},
    "memory": {"weights": 4 * chips.GIB, "temporaries": chips.GIB, "peak": peak},
    "cost": {
      "flops": 2 * 459e12,
      "bytes": 2.8e12,
      "collectives": [
        {"kind": "all-gather", "devices": 8, "beside": 8, "bytes": 2.7e11}
      ],
    },
  }
  return made | changes


def test_times_are_the_counts_by_the_rates():
  plan = predict.predict(chips.parse("v5p:2x2x2"), compiled())
  # Three axes of two chips are no rings: each sends 9e10 bytes a second.
  assert plan.seconds == {"compute": 2.0, "memory": 1.0, "interconnect": 1.0}
  assert (plan.binds, plan.step_seconds, plan.serial_seconds) == ("compute", 2.0, 4.0)
  assert plan.mfu == 0.5
  assert plan.examples_per_second == 8
  run = plan.run(28_800, dollars=None)
  assert run == {"examples": 28_800, "hours": 1.0, "dollars": 8 * 4.20}
  shown = "\n".join(report.lines("dpo", plan, None))
  assert "fits" in shown
  assert json.loads(json.dumps(report.json("dpo", plan, 1.0, None)))["fits"]


def test_a_refusal_of_the_compiler_is_no_fit_and_has_no_time():
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
def test_both_refusals_of_libtpu_are_read(text, peak):
  found = worker.refusal(text)
  assert found == {"peak": peak * chips.GIB, "capacity": 15.75 * chips.GIB}
  assert worker.refusal("INTERNAL: something else") is None


def test_the_smallest_change_that_fits_is_found_by_trying():
  asked = []

  def find(request):
    config = json.loads(request.json()["config"])
    asked.append((config["remat"], config["micro_tokens"]))
    tokens = config["micro_tokens"]
    fits = config["remat"] == "full" and tokens <= 1024
    return compiled(peak=(1 if fits else 100) * chips.GIB)

  config = sft.get_config()
  config.remat = "none"
  machine = chips.parse("v5p:2x2x2")
  found = fit.search("sft", config, MODEL, LENGTHS, machine, find)
  assert found
  assert found[0] == {"remat": "full", "micro_tokens": 1024}
  assert asked == [("cheap", 4096), ("full", 4096), ("full", 2048), ("full", 1024)]
  assert config.remat == "none", "the user's config is not touched"


def test_fewer_slots_are_what_sampling_tries():
  tried = list(fit.changes("sample", sample.get_config(), devices=8))
  assert [t.get("slots") for t in tried[:2]] == [16, 8]
  assert tried[-1]["mesh.tensor"] == 8


def test_weak_scaling_lets_the_batch_grow():
  asked = {}

  def find(request):
    config = json.loads(request.json()["config"])
    asked[request.devices, config["mesh"]["tensor"]] = config["batch_size"]
    return compiled()

  rows = sweep.run(
    *("dpo", dpo.get_config(), MODEL, LENGTHS),
    chips.slices("v5p", [8, 16]),
    "weak",
    find=find,
  )
  assert asked == {(8, 1): 16, (8, 2): 16, (16, 1): 32, (16, 2): 32}
  assert "| 16 | 2 | 8 | 1 |" in sweep.table(rows)


def test_plots_are_a_png(tmp_path):
  rows = sweep.run(
    *("dpo", dpo.get_config(), MODEL, LENGTHS),
    chips.slices("h100", [8, 16]),
    "strong",
    find=lambda request: compiled(),
  )
  sweep.plots(rows, tmp_path / "sweep.png", "title")
  assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
  ("topology", "message"),
  [("v9:2x2", "one of v5e"), ("v5p", "wants a TPU's axes"), ("h800:0", "wants")],
)
def test_a_machine_that_is_none_is_one_line(topology, message):
  with pytest.raises(errors.UserError, match=message):
    chips.parse(topology)


def test_slices_are_as_near_to_a_cube_as_can_be():
  shapes = [machine.shape for machine in chips.slices("v5p", [8, 16, 1024])]
  assert shapes == [(2, 2, 2), (2, 2, 4), (8, 8, 16)]
  assert [m.shape for m in chips.slices("v5e", [8, 256])] == [(2, 4), (16, 16)]
  assert [m.shape for m in chips.slices("h100", [64])] == [(64,)]


def test_a_group_over_nodes_uses_ports_too():
  machine = chips.parse("h100:16")
  assert machine.sends(8, beside=8) == {"interconnect": 450e9}
  assert machine.sends(16, beside=8) == {"interconnect": 450e9, "network": 400e9}
  # Of each node one: eight groups share its eight ports.
  assert machine.sends(2, beside=1) == {"network": 50e9}


def test_ports_and_links_are_two_resources():
  made = compiled()
  made["cost"]["collectives"] += [
    {"kind": "all-reduce", "devices": 2, "beside": 1, "bytes": 1e11}
  ]
  plan = predict.predict(chips.parse("h100:16"), made)
  assert plan.seconds["interconnect"] == 0.6
  assert plan.seconds["network"] == 2.0


def test_a_permute_goes_both_ways_round_a_ring():
  machine = chips.parse("v5p:2x2x2")
  assert machine.sends(2, 2) == {"interconnect": 9e10}
  assert machine.sends(2, 2, "collective-permute") == {"interconnect": 2 * 9e10}


def test_a_model_that_is_none_is_one_line():
  with pytest.raises(errors.UserError, match="no such directory; or one of llama3-8b"):
    models.read("nothing")


@pytest.mark.slow
def test_what_was_compiled_is_kept(tmp_path, monkeypatch):
  """Asked a second time, nothing is started."""
  monkeypatch.setenv("VPO_JAX_CACHE", str(tmp_path))
  config = sft.get_config()
  config.update(batch_size=8, micro_tokens=512)
  small = models.MODELS["smollm2-135m"] | {"num_hidden_layers": 2, "vocab_size": 512}
  model = models.decoder_config.parse(small)
  request = compiles.Request("sft", config, model, LENGTHS, "host", 2)
  first = compiles.find(request)
  assert first["cost"]["flops"] > first["work"]["flops"] / 2
  assert first["about"]["mesh"]["fsdp"] == 2
  assert "HloModule" in compiles.text(first["text"])
  monkeypatch.setattr(compiles.subprocess, "run", None)
  assert compiles.find(request)["cost"] == first["cost"]
  config.mesh.tensor = 3
  monkeypatch.undo()
  monkeypatch.setenv("VPO_JAX_CACHE", str(tmp_path))
  with pytest.raises(errors.UserError, match="3 does not divide 2 devices"):
    compiles.find(compiles.Request("sft", config, model, LENGTHS, "host", 2))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--topology=v9:2x2"], "--topology=v9:2x2: one of v5e, v5p, v6e, h800"),
    (["--config=configs/curate.py"], "plans are for sft, dpo and sample"),
  ],
)
def test_a_wrong_flag_is_one_line(arguments, message):
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
