"""Training with LoRA, and what it exports, for models of several families."""

import shutil

import pytest
import torch
import transformers

from configs import export as export_config
from tests import families
from tests.train import runs
from vpo_jax import stages
from vpo_jax.decoder import directory
from vpo_jax.serve import export
from vpo_jax.train import dpo

pytestmark = pytest.mark.slow
LORA = {"rank": 4, "alpha": 8.0, "targets": ("q", "v", "o", "down")}


@pytest.fixture
def folder(tiny_model, tmp_path):
  """For a model; has the tiny tokenizer already."""
  folder = tmp_path / "base"
  folder.mkdir()
  for name in directory.COMPANIONS:
    if (tiny_model / name).exists():
      shutil.copy(tiny_model / name, folder / name)
  return folder


def train(make_config, folder, workdir, **changes):
  config = make_config("dpo", **changes)
  config.model = str(folder)
  config.lora.update(LORA)
  stages.run(dpo.STAGE, config, workdir)
  return workdir / "train_dpo"


def logits(model, tokens):
  with torch.no_grad():
    return model(tokens).logits


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("name", families.DISTINCT)
def test_the_adapter_the_model_and_its_export_agree(
  make_config, folder, tmp_path, name
):
  """Trained on eight devices; transformers and PEFT compute the logits."""
  import peft

  theirs = families.make(name, folder)
  trained = train(make_config, folder, tmp_path, mesh=runs.MIXED)
  assert runs.metrics(tmp_path, "dpo", "eval/loss")[0] == pytest.approx(
    torch.tensor(2.0).log().item(), abs=1e-5
  )
  tokens = torch.arange(60)[None]
  before = logits(theirs, tokens)
  options = {"attn_implementation": "eager"}
  load = transformers.AutoModelForCausalLM.from_pretrained
  merged = logits(load(trained / "model", **options), tokens)
  adapted = peft.PeftModel.from_pretrained(theirs, trained / "adapter")
  scale = merged.abs().max().item()
  torch.testing.assert_close(logits(adapted, tokens), merged, atol=2e-5 * scale, rtol=0)
  assert (before - merged).abs().max() > 1e-3 * scale

  config = export_config.get_config()
  config.dtype = "float32"
  stages.run(export.STAGE, config, tmp_path)
  exported = load(tmp_path / "vpo", **options)
  assert type(exported) is type(theirs)
  torch.testing.assert_close(logits(exported, tokens), merged, atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_model_of_text_and_images_is_trained_as_its_language_model(
  make_config, folder, tmp_path
):
  """The adapter is for the whole model; the merged model is the language model."""
  import peft

  torch.manual_seed(0)
  config = transformers.Gemma3Config(
    text_config={
      "vocab_size": families.VOCAB,
      "hidden_size": 32,
      "intermediate_size": 48,
      "num_hidden_layers": 2,
      "num_attention_heads": 4,
      "num_key_value_heads": 2,
      "head_dim": 16,
      "sliding_window": 24,
      "query_pre_attn_scalar": 16,
      "max_position_embeddings": 1024,
      "initializer_range": 0.2,
    },
    vision_config={
      "hidden_size": 32,
      "intermediate_size": 64,
      "num_hidden_layers": 1,
      "num_attention_heads": 2,
      "image_size": 28,
      "patch_size": 14,
    },
    mm_tokens_per_image=4,
    image_token_index=families.VOCAB - 1,
  )
  whole = transformers.Gemma3ForConditionalGeneration(config).eval()
  whole.save_pretrained(folder)
  trained = train(make_config, folder, tmp_path)
  merged = transformers.AutoModelForCausalLM.from_pretrained(trained / "model").eval()
  assert isinstance(merged, transformers.Gemma3ForCausalLM)
  tokens = torch.arange(60)[None]
  before = logits(whole, tokens)
  adapted = peft.PeftModel.from_pretrained(whole, trained / "adapter")
  ours = logits(merged, tokens)
  scale = ours.abs().max().item()
  torch.testing.assert_close(logits(adapted, tokens), ours, atol=2e-5 * scale, rtol=0)
  assert (before - ours).abs().max() > 1e-3 * scale
