"""Everything that the rehearsal feeds to the paper's config, in the true formats.

    python -m tests.rehearsal.inputs --out=runs/rehearsal-inputs

- `policy`: a random Llama-3 of tiny size with Llama-3's tokenizer (128,256 tokens),
  chat format, untied head and several weight files;
- `tiny-cogvideox-2b`, `tiny-cogvideox-5b`: random `CogVideoXPipeline`s, each
  configured as the model it is named for;
- `visionreward`: a model with remote code that behaves as VisionReward is known to,
  with question and weight files;
- `monetbench.parquet`, `t2vsafetybench`: prompts in the formats of the benchmarks;
- `vbench/python`: an interpreter whose VBench has the prompts of the real one and
  writes results of its formats, which mean nothing; `vbench/long.jsonl`: a longer
  prompt for each of them;
- `vidprom.csv`: queries in VidProM's format.

The models know nothing: the rehearsal shows that the parts fit together, not that the
method works (docs/miniature.md shows that).
"""

import argparse
import csv
import importlib.util
import json
import pathlib
import random
import shutil
import sys
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import polars as pl
import tokenizers
import torch
import transformers
from transformers.convert_slow_tokenizer import TikTokenConverter

from tests.torch_bridge import visionreward_model

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
TEXT_TOKENS = 226
FRAMES, HEIGHT, WIDTH = 9, 32, 48

# As in the chat format of Llama-3-Instruct.
CHAT_TEMPLATE = (
  "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}"
  "<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
  "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
  "{% endif %}"
)


def policy(folder: pathlib.Path) -> None:
  """A random Llama-3 whose embedding and head are in weight files of their own."""
  tokenizer = llama3_tokenizer()
  tokenizer.save_pretrained(folder)
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    vocab_size=len(tokenizer),
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=8192,
    rope_theta=500_000.0,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    bos_token_id=tokenizer.convert_tokens_to_ids("<|begin_of_text|>"),
    eos_token_id=[
      tokenizer.convert_tokens_to_ids(name)
      for name in ("<|end_of_text|>", "<|eot_id|>")
    ],
    **SHAPE,
  )
  model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)  # type: ignore[arg-type]
  model.save_pretrained(folder, max_shard_size="8MB")


def llama3_tokenizer() -> transformers.PreTrainedTokenizerFast:
  """Llama-3's tokenizer, from the file in the package llama-models."""
  package = importlib.util.find_spec("llama_models")
  if package is None or package.origin is None:
    raise SystemExit("install llama-models first: make rehearsal does")
  ranks = pathlib.Path(package.origin).parent / "llama3" / "tokenizer.model"
  specials = ["<|begin_of_text|>", "<|end_of_text|>"]
  specials += [f"<|reserved_special_token_{k}|>" for k in range(4)]
  specials += ["<|start_header_id|>", "<|end_header_id|>"]
  specials += ["<|reserved_special_token_4|>", "<|eot_id|>"]
  specials += [f"<|reserved_special_token_{k}|>" for k in range(5, 251)]
  converted = TikTokenConverter(
    vocab_file=str(ranks),
    pattern=(
      r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
      r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    extra_special_tokens=specials,
  ).converted()
  # As in the model's tokenizer.json: a text begins with <|begin_of_text|>.
  begin = converted.token_to_id("<|begin_of_text|>")
  converted.post_processor = tokenizers.processors.TemplateProcessing(
    single="<|begin_of_text|> $A",
    pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
    special_tokens=[("<|begin_of_text|>", begin)],
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=converted,
    bos_token="<|begin_of_text|>",
    eos_token="<|eot_id|>",
    chat_template=CHAT_TEMPLATE,
    model_max_length=8192,
  )


def cogvideox(folder: pathlib.Path, large: bool) -> None:
  """A random CogVideoX of tiny size, configured as the 5B model or as the 2B model."""
  torch.manual_seed(0)
  tokenizer = t5_tokenizer()
  make: Any = diffusers.AutoencoderKLCogVideoX
  vae = make(
    block_out_channels=(8, 8, 8, 8),
    latent_channels=4,
    layers_per_block=1,
    norm_num_groups=2,
    temporal_compression_ratio=4,
    sample_height=HEIGHT,
    sample_width=WIDTH,
    scaling_factor=0.7 if large else 1.15258426,
  )
  with torch.no_grad():  # random frames would all have about the same brightness
    vae.decoder.conv_out.conv.weight.mul_(3)
  transformer = diffusers.CogVideoXTransformer3DModel(
    num_attention_heads=2,
    attention_head_dim=16,
    in_channels=4,
    out_channels=4,
    time_embed_dim=8,
    text_embed_dim=16,
    num_layers=1,
    sample_width=WIDTH // 8,
    sample_height=HEIGHT // 8,
    sample_frames=FRAMES,
    patch_size=2,
    temporal_compression_ratio=4,
    max_text_seq_length=TEXT_TOKENS,
    use_rotary_positional_embeddings=large,
  )
  schedule = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0 if large else 3.0,
    "timestep_spacing": "trailing",
  }
  scheduler = (
    diffusers.CogVideoXDPMScheduler if large else diffusers.CogVideoXDDIMScheduler
  )
  text_encoder = transformers.T5EncoderModel(
    transformers.T5Config(
      vocab_size=len(tokenizer),
      d_model=16,
      d_kv=8,
      num_heads=2,
      d_ff=32,
      num_layers=1,
      feed_forward_proj="gated-gelu",
    )
  )
  diffusers.CogVideoXPipeline(
    tokenizer=tokenizer,
    text_encoder=text_encoder,
    vae=vae,
    transformer=transformer,
    scheduler=scheduler(**schedule),
  ).save_pretrained(folder)


def t5_tokenizer() -> transformers.T5Tokenizer:
  """A T5 tokenizer with one token per printable ASCII character."""
  pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
  pieces += [(chr(code), -4.0) for code in range(33, 127)]
  return transformers.T5Tokenizer(
    vocab=pieces, extra_ids=0, model_max_length=TEXT_TOKENS
  )


def visionreward(folder: pathlib.Path) -> None:
  """A small model with remote code, and both question files with weights for one."""
  folder.mkdir(parents=True)
  lines = [
    f"Is point {k} right{' for [[prompt]]' if k < 5 else ''}?" for k in range(1, 65)
  ]
  select = [line for k, line in enumerate(lines, start=1) if k % 2 and k < 58]
  assert len(select) == 29
  (folder / "VisionReward_video_qa.txt").write_text("\n".join(lines) + "\n")
  (folder / "VisionReward_video_qa_select.txt").write_text("\n".join(select) + "\n")
  (folder / "weight.json").write_text(json.dumps([0.2165] * len(select)))
  words = [*map(str, range(65)), "Is", "point", "right", "for", "?"]
  visionreward_model.save(folder, words, tokenizers.pre_tokenizers.Whitespace())


# Words for queries that are not alike.
ADJECTIVES = (
  "red old tiny tired golden lonely wild proud silent muddy striped brave sleepy frozen"
  " rusty hungry elegant crooked shiny curious purple giant broken gentle"
)
NOUNS = (
  "fox sailor cat astronaut dragon robot dancer horse violin painter whale child train"
  " lantern owl baker island windmill turtle knight garden bicycle wizard river"
)
VERBS = (
  "crosses paints follows lifts watches circles remembers builds chases carries opens"
  " greets mirrors repairs hides collects climbs teaches warms measures sketches guards"
  " sings juggles"
)
PLACES = (
  'rooftop "Tokyo" desert harbour library market cave meadow station theatre kitchen'
  " volcano attic bridge orchard museum jungle glacier carnival lighthouse workshop"
  " village tunnel balcony"
)
UNSAFE = "bleeding to death;with a knife in the back;naked;shooting people"
COLUMNS = (
  *("toxicity", "obscene", "identity_attack"),
  *("insult", "threat", "sexual_explicit"),
)


def vidprom(path: pathlib.Path, count: int = 400) -> None:
  """Queries as rows of VidProM: commas, quotes and newlines inside fields."""
  chance = random.Random(0)

  def draw(words: str) -> str:
    return chance.choice(words.split())

  styles = ("", ", 4k", " -camera zoom in", "\nslow motion", " -neg blurry -seed 7")
  with path.open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["uuid", "prompt", "time", *COLUMNS])
    for k in range(count):
      who, whom = (f"{draw(ADJECTIVES)} {draw(NOUNS)}" for _ in range(2))
      where = f"{draw(ADJECTIVES)} {draw(PLACES)}"
      parts = [f"{who} {draw(VERBS)} {whom}, in the {where}"]
      unsafe = chance.random() < 0.25
      if unsafe:
        parts.append(chance.choice(UNSAFE.split(";")))
      text = f"{' '.join(parts)}{chance.choice(styles)}"
      scores = [f"{0.9 if unsafe else 0.01:.4f}"] * len(COLUMNS)
      rows.writerow([f"uuid-{k}", text, "Sun Sep  3 12:27:44 2023", *scores])


def suites(folder: pathlib.Path) -> None:
  """What the suites of the evaluation read."""
  prompts = [
    f"A {one} {who} {does} a {whom}."
    for one, who, does, whom in zip(
      ADJECTIVES.split(), NOUNS.split(), VERBS.split(), NOUNS.split()[::-1], strict=True
    )
  ]
  pl.DataFrame(
    {
      "prompt": prompts,
      "content": [("Story", "Animal Activity")[k % 2] for k in range(len(prompts))],
      "challenge": [[("Style", "Text")[k % 2], "Surreal"] for k in range(len(prompts))],
    }
  ).write_parquet(str(folder / "monetbench.parquet"))
  safety = folder / "t2vsafetybench"
  safety.mkdir()
  names = [f"Class {k}: its definition" for k in range(1, 15)]
  (safety / "definition.txt").write_text("\n".join(names))
  for k in range(1, 15):
    rows = [f"{prompt[:-1]} {UNSAFE.split(';')[k % 4]} ({k})" for prompt in prompts[:4]]
    (safety / f"{k}.txt").write_bytes("\r\n".join(rows).encode() + b" \xff\x85")
  vbench(folder / "vbench")


def vbench(folder: pathlib.Path) -> None:
  """An interpreter with a stand-in for VBench, and VBench's own prompts."""
  real = importlib.util.find_spec("vbench")
  if real is None or real.origin is None:
    raise SystemExit("install vbench first: make rehearsal does")
  stand_in = pathlib.Path(__file__).parents[1] / "evaluate" / "vbench" / "stand_in"
  shutil.copytree(stand_in / "vbench", folder / "packages" / "vbench")
  info = pathlib.Path(real.origin).parent / "VBench_full_info.json"
  shutil.copy(info, folder / "packages" / "vbench" / info.name)
  (folder / "packages" / "torch.py").write_text("device = str\n")
  prompts = [row["prompt_en"] for row in json.loads(info.read_text())]
  rows = [{"query": text, "prompt": f"A long shot of {text}."} for text in prompts]
  (folder / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  python = folder / "python"
  python.write_text(
    f"#!{sys.executable}\n"
    "import os, pathlib, sys\n"
    "own = pathlib.Path(__file__).parent\n"
    "os.environ['PYTHONPATH'] = str(own / 'packages')\n"
    "os.environ['STAND_IN_RUNS'] = str(own / 'runs.txt')\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
  )
  python.chmod(0o755)


def main() -> None:
  parser = argparse.ArgumentParser(description="Writes the rehearsal's inputs.")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  out = parser.parse_args().out
  if (out / "vidprom.csv").exists():  # written last
    return
  shutil.rmtree(out, ignore_errors=True)
  out.mkdir(parents=True)
  policy(out / "policy")
  cogvideox(out / "tiny-cogvideox-2b", large=False)
  cogvideox(out / "tiny-cogvideox-5b", large=True)
  visionreward(out / "visionreward")
  suites(out)
  vidprom(out / "vidprom.csv")


if __name__ == "__main__":
  main()
