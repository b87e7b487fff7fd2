"""The training benchmark times the step of the stage."""

import json

import numpy as np
import peft
import pytest
import transformers
from etils import epath

from vpo_jax import errors
from vpo_jax.bench import rows, shapes, stage_step, train, trl
from vpo_jax.data import chat, forest
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.train import matmul_rate

QUERIES = [f"{count} cats on skateboards" for count in range(15)]


@pytest.mark.parametrize(("kind", "responses"), [("sft", 1), ("dpo", 2)])
def test_rows_have_real_queries_and_random_responses(
  tmp_path, tiny_model, kind, responses
):
  made = rows.make(kind, QUERIES, 4)
  assert made == rows.make(kind, QUERIES, 4)
  assert QUERIES[3] in made[3]["messages"][0]["content"]
  path = tmp_path / "rows.json"
  path.write_text(json.dumps(made))
  chat_format = chat.load(tiny_model, decoder_config.read(tiny_model).vocab)
  examples, set_aside = data_examples.read(path, chat_format, kind, 2048)
  assert not set_aside
  assert all(len(example.responses) == responses for example in examples)
  response = made[0].get("chosen", made[0]["messages"][-1])["content"]
  assert rows.WORDS[0] <= len(response.split()) <= rows.WORDS[1]
  with pytest.raises(errors.UserError, match="needs 16 queries"):
    rows.make(kind, QUERIES, 16)


@pytest.mark.parametrize("kind", [pytest.param("sft", marks=pytest.mark.slow), "dpo"])
def test_reported_figures_are_consistent(tiny_model, kind):
  result = train.bench(
    kind,
    str(tiny_model),
    QUERIES,
    batch=1,
    steps=1,
    precision="float32",
    micro_tokens=1024,
    remat="none",
  )
  keys = {
    "examples_per_second",
    "useful_tokens_per_second",
    "plain_tokens_per_second",
    "model_flops_per_second",
    "matmul_flops_per_second",
    "fraction_of_matmul",
    "peak_rss_bytes",
    "compile_seconds",
  }
  assert keys <= result.keys()
  assert all(result[key] > 0 for key in keys)
  assert result["plain_tokens_per_second"] >= result["useful_tokens_per_second"]
  fraction = result["model_flops_per_second"] / result["matmul_flops_per_second"]
  np.testing.assert_allclose(result["fraction_of_matmul"], fraction)
  json.dumps(result)


def adapted(kind, folder, model):
  """The program of four steps on the same two rows, which trains adapters of rank 4."""
  path = epath.Path(folder) / "train.json"
  path.write_text(json.dumps(4 * rows.make(kind, QUERIES, 2)))
  config = stage_step.make_config(
    kind, 2, precision="float32", remat="none", lora={"rank": 4}
  )
  config.optimizer.update(peak_lr=1e-3, warmup_ratio=0.0)
  return stage_step.read_program(kind, config, str(model), path), path


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_lora_trains_as_many_parameters_as_peft(tmp_path, tiny_model):
  program, _ = adapted("sft", tmp_path, tiny_model)
  model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
  settings = peft.LoraConfig(**program.lora.peft(decoder_config.read(tiny_model)))
  trainable, _ = peft.get_peft_model(model, settings).get_nb_trainable_parameters()
  assert program.trainable_parameters == trainable


@pytest.mark.slow
def test_the_reference_of_dpo_has_no_adapter(tmp_path, tiny_model):
  """If it had the trained one, the loss would be log 2 at every step."""
  program, _ = adapted("dpo", tmp_path, tiny_model)
  for step in range(4):
    program(step)
  np.testing.assert_allclose(program.losses[0], np.log(2), atol=1e-5)
  assert program.losses[-1] < program.losses[0] - 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_lora_begins_at_trls_loss_and_learns_as_it_does(tmp_path, tiny_model, kind):
  program, path = adapted(kind, tmp_path, tiny_model)
  for step in range(4):
    program(step)
  settings = program.lora.peft(decoder_config.read(tiny_model))
  with trl.program(
    kind,
    epath.Path(tiny_model),
    path,
    2,
    4,
    trl.Setting(1, "float32"),
    settings,
    learning_rate=1e-3,
    lr_scheduler_type="constant",
  ) as theirs:
    for step in range(4):
      theirs(step)
  assert program.trainable_parameters == theirs.trainable_parameters
  np.testing.assert_allclose(program.losses[0], theirs.losses[0], rtol=1e-5)
  for losses in (program.losses, theirs.losses):
    assert losses[-1] < losses[0] - 1e-3


def test_a_known_shape_gets_random_weights_and_a_tokenizer(tmp_path):
  folder = shapes.resolve("tiny", epath.Path(tmp_path) / "tiny")
  config = transformers.AutoConfig.from_pretrained(folder)
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  assert len(tokenizer) <= config.vocab_size
  transformers.AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.slow
def test_groups_are_timed_beside_dpo(tiny_model):
  result = train.bench_groups(
    str(tiny_model),
    QUERIES,
    batch=2,
    candidates=3,
    steps=1,
    precision="float32",
    micro_tokens=1024,
    remat="none",
  )
  assert result["candidates_per_second"] > 0
  assert result["dpo_candidates_per_second"] > 0
  ratio = result["candidates_per_second"] / result["dpo_candidates_per_second"]
  assert result["times_dpo"] == pytest.approx(ratio, rel=0.05)
  json.dumps(result)


def test_the_matrix_rate_covers_every_product(tiny_model):
  """7 matrices per layer for every token, and the head where a token is predicted."""
  config = decoder_config.read(tiny_model)
  shape = forest.Shape(groups=1, stem=4, rows=2, row=8, trees=2, branches=1, predict=32)
  products = matmul_rate.products(config, shape)
  d, f, kv = config.d_model, config.d_ff, config.kv_heads * config.head_dim
  layer = 2 * d * d + 2 * d * kv + 3 * d * f
  multiply_adds = sum(count * rows * np.prod(size) for rows, size, count in products)
  by_hand = config.layers * (4 + 16) * layer + 32 * d * config.vocab
  np.testing.assert_allclose(multiply_adds, by_hand)


@pytest.mark.slow
def test_an_early_exit_of_trl_is_a_user_error(tmp_path, tiny_model):
  missing = tmp_path / "missing.json"
  setting = trl.Setting(1, "float32")
  with (
    trl.program(
      "sft", epath.Path(tiny_model), epath.Path(missing), 2, 1, setting
    ) as program,
    pytest.raises(errors.UserError, match="TRL ended with exit code 1: "),
  ):
    program(0)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "lora_rank"), [("sft", 0), ("dpo", 0), ("dpo", 4)])
def test_trl_alternates_on_the_same_rows(tiny_model, kind, lora_rank):
  settings = [trl.Setting(1, "float32"), trl.Setting(2, "bfloat16")]
  settings.append(trl.Setting(4, "float32"))  # more rows than a batch: TRL exits
  result = train.bench(
    kind,
    str(tiny_model),
    QUERIES,
    batch=2,
    steps=2,
    precision="float32",
    lora_rank=lora_rank,
    against=settings,
  )
  assert result["lora_rank"] == lora_rank
  error = result["trl"].pop("float32 x 4")["error"]
  assert error.startswith("TRL ended with exit code")
  assert result["trl"].keys() == {"float32 x 1", "bfloat16 x 2"}
  ratios = [setting["times_trl"] for setting in result["trl"].values()]
  assert result["times_trl"] == min(ratios)
  for setting in result["trl"].values():
    assert setting["peak_rss_bytes"] > 0
    assert setting["trainable_parameters"] == result["trainable_parameters"]
