"""What launch/bench.py says of training is measured on the stage's own step."""

import json

import jax
import numpy as np
import pytest

from vpo_jax import errors
from vpo_jax.bench import rows, shapes, train, trl
from vpo_jax.data import chat, forest
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import head
from vpo_jax.train import matmul_rate

QUERIES = [f"{count} cats on skateboards" for count in range(15)]


def test_the_named_shapes_are_theirs():
  sizes = {"llama-3.2-1b": 1_235_814_400, "llama-3.2-3b": 3_212_749_824}
  for name, hf in shapes.SHAPES.items():
    from vpo_jax.decoder import table

    weights = jax.tree.leaves(table.table(decoder_config.parse(hf)))
    assert sum(int(np.prod(weight.shape)) for weight in weights) == sizes[name]


@pytest.mark.parametrize(("kind", "responses"), [("sft", 1), ("dpo", 2)])
def test_rows_are_the_queries_and_random_words(tmp_path, tiny_llama, kind, responses):
  made = rows.make(kind, QUERIES, 4)
  assert made == rows.make(kind, QUERIES, 4)
  assert QUERIES[3] in made[3]["messages"][0]["content"]
  path = tmp_path / "rows.json"
  path.write_text(json.dumps(made))
  examples, aside = data_examples.read(
    path, chat.load_tokenizer(tiny_llama), kind, 2048
  )
  assert not aside
  assert all(len(example.responses) == responses for example in examples)
  answer = made[0].get("chosen", made[0]["messages"][-1])["content"]
  assert rows.WORDS[0] <= len(answer.split()) <= rows.WORDS[1]
  with pytest.raises(errors.UserError, match="wants 16 queries"):
    rows.make(kind, QUERIES, 16)


@pytest.mark.parametrize("kind", [pytest.param("sft", marks=pytest.mark.slow), "dpo"])
def test_the_keys_and_what_they_say_of_each_other(tiny_llama, kind):
  said = train.bench(
    kind, str(tiny_llama), QUERIES, batch=2, steps=1, precision="float32", remat="none"
  )
  wanted = {
    "examples_per_second",
    "useful_tokens_per_second",
    "plain_tokens_per_second",
    "model_flops_per_second",
    "matmul_flops_per_second",
    "fraction_of_matmul",
    "peak_rss_bytes",
    "compile_seconds",
  }
  assert wanted <= said.keys()
  assert all(said[key] > 0 for key in wanted)
  assert said["plain_tokens_per_second"] > said["useful_tokens_per_second"]
  fraction = said["model_flops_per_second"] / said["matmul_flops_per_second"]
  np.testing.assert_allclose(said["fraction_of_matmul"], fraction)
  json.dumps(said)


def test_the_matrix_rate_counts_every_product(tiny_llama, monkeypatch):
  """At one second a product: 7 matrices a layer, and each block of the head."""
  config = decoder_config.read(tiny_llama)
  shape = forest.Shape(groups=1, stem=4, rows=2, row=8, trees=2, branches=1, predict=32)
  monkeypatch.setattr(rate, "_seconds", lambda *_: 1.0)
  monkeypatch.setattr(head, "blocks", lambda *_: 2)
  measured = matmul_rate.matmul_flops_per_second(config, shape, "float32")
  d, f, kv = 32, 64, 16
  layer = 2 * d * d + 2 * d * kv + 3 * d * f
  flops = 6 * (config.layers * (4 + 16) * layer + 32 * d * config.vocab)
  np.testing.assert_allclose(measured, flops / (config.layers * 7 + 2))


@pytest.mark.slow
def test_a_trl_that_ends_is_one_line(tmp_path, tiny_llama):
  missing = tmp_path / "missing.json"
  setting = trl.Setting(1, "float32")
  with (
    trl.program("sft", tiny_llama, missing, 2, 1, setting) as program,
    pytest.raises(errors.UserError, match="TRL ended with exit code 1: "),
  ):
    program(0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_trl_takes_the_same_rows_in_turns(tiny_llama, kind):
  pytest.importorskip("trl")
  settings = [trl.Setting(1, "float32"), trl.Setting(2, "bfloat16")]
  settings.append(trl.Setting(4, "float32"))  # more rows than a batch: TRL ends
  said = train.bench(
    kind,
    str(tiny_llama),
    QUERIES,
    batch=2,
    steps=2,
    precision="float32",
    against=settings,
  )
  assert said["trl"].pop("float32 x 4")["error"].startswith("TRL ended with exit code")
  assert said["trl"].keys() == {"float32 x 1", "bfloat16 x 2"}
  ratios = [result["times_trl"] for result in said["trl"].values()]
  assert said["times_trl"] == min(ratios)
  assert all(result["peak_rss_bytes"] > 0 for result in said["trl"].values())
