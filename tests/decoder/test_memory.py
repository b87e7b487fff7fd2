"""Loading and saving take the devices' arrays and little host memory besides.

On a CPU the arrays are host memory too: the peak of a process of eight devices is
compared with their size. Files are not mapped, so none of their pages are counted.
"""

import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import known, stored, table, weights

SMALL = {
  "model_type": "llama",
  "hidden_size": 1024,
  "intermediate_size": 3584,
  "num_hidden_layers": 8,
  "num_attention_heads": 16,
  "num_key_value_heads": 8,
  "vocab_size": 8192,
  "max_position_embeddings": 1024,
  "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0,
  "tie_word_embeddings": True,
}

# Prints the peaks in bytes, each from the step before on, and the size of the arrays.
SCRIPT = """
import json, sys, time
import jax
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, sharding, weights

def status(key):
  lines = open("/proc/self/status").read().splitlines()
  return next(int(x.split()[1]) for x in lines if x.startswith(key)) * 1024

def peak(run):
  with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # resets VmHWM
  before, began = status("VmRSS"), time.monotonic()
  value = run()
  seconds = round(time.monotonic() - began, 1)
  return value, {"peak": status("VmHWM"), "before": before, "seconds": seconds}

base, out, dtype, shard_bytes = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
config = decoder_config.read(base)
mesh = sharding.make_mesh({"data": 1, "fsdp": 8, "tensor": 1})
jax.block_until_ready(jax.device_put(0.0))
_, convert = peak(
  lambda: weights.convert(out + "/a", base, config, "bfloat16", shard_bytes)
)
params, load = peak(
  lambda: weights.load(base, config, sharding.params(config, mesh), dtype)
)
_, save = peak(
  lambda: weights.save(out + "/b", params, config, "bfloat16", shard_bytes)
)
size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
print(json.dumps({"load": load, "save": save, "convert": convert, "arrays": size}))
"""


def write_model(folder, hf, shard_bytes):
  """A model of random bfloat16 weights in several files; returns the largest's size."""
  folder.mkdir()
  (folder / "config.json").write_text(json.dumps(hf))
  rng, index, shard, size = np.random.default_rng(0), {}, [], 0

  def flush():
    path = folder / f"part{len(index)}.safetensors"
    values = (rng.random(shape, np.float32) for _, shape in shard)
    stored.write(path, shard, "bfloat16", values)
    index.update((name, path.name) for name, _ in shard)
    shard.clear()

  for name, shape in weights.hf_shapes(table.table(decoder_config.read(folder))):
    if shard and size + 2 * math.prod(shape) > shard_bytes:
      flush()
      size = 0
    shard.append((name, shape))
    size += 2 * math.prod(shape)
  flush()
  (folder / weights.INDEX).write_text(json.dumps({"weight_map": index}))
  files = list(folder.glob("*.safetensors"))
  assert len(files) > 2
  return max(path.stat().st_size for path in files)


def measure(tmp_path, hf, dtype, shard_bytes):
  """What the script prints, and the size of the largest file."""
  largest = write_model(tmp_path / "base", hf, shard_bytes)
  command = [sys.executable, "-c", SCRIPT, tmp_path / "base", tmp_path, dtype]
  done = subprocess.run(
    [*command, str(shard_bytes)],
    cwd=pathlib.Path(__file__).parents[2],
    stdout=subprocess.PIPE,
    check=True,
  )
  found = json.loads(done.stdout)
  print(f"largest file {largest}, {found}")
  return found, largest


def test_a_small_models_weights_are_not_held_twice(tmp_path):
  """Peaks above what the interpreter and JAX take, which is as much as this model."""
  found, largest = measure(tmp_path, SMALL, "float32", 2 * 10**7)
  above = {
    k: found[k]["peak"] - found[k]["before"] for k in ("load", "save", "convert")
  }
  assert above["load"] < 1.2 * found["arrays"] + largest
  assert above["save"] < 0.3 * found["arrays"] + largest
  assert above["convert"] < 0.3 * found["arrays"] + largest


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_model_of_1b_takes_its_arrays_and_a_file(tmp_path, dtype):
  """Peaks of the whole process; an export takes no arrays at all."""
  hf = known.MODELS["llama3.2-1b"]
  found, largest = measure(tmp_path, hf, dtype, 6 * 10**8)
  assert found["load"]["peak"] < 1.3 * found["arrays"] + largest
  assert found["save"]["peak"] < 1.3 * found["arrays"] + largest
  assert found["convert"]["peak"] < largest
