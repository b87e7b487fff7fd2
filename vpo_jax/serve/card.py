"""The model card: what the model is, how to use it, and the figures of its run."""

from typing import Any

import ml_collections
from etils import epath

from vpo_jax import json_input, stages

NOTE = "note.txt"  # beside the model: what its users must know

# The counts of each finished stage; `base` has the model that training started from.
Figures = dict[str, dict[str, Any]]

_STAGES = (
  "curate",
  "build_sft",
  "train_sft",
  "sample",
  "text_pairs",
  "score_videos",
  "video_pairs",
  "merge_pairs",
  "train_dpo",
  "groups",
  "train_groups",
)

_CARD = """---
library_name: {library}
pipeline_tag: text-generation
tags:
- text-to-video
- prompt-optimization
---

# A prompt optimizer for text-to-video models

It rewrites a short query into a prompt that is harmless, accurate and helpful for a
text-to-video model. Trained by VPO (Cheng et al., 2025, arXiv:2503.20491): supervised
fine-tuning, then direct preference optimization on text-level and video-level pairs.

{note}- {base}
- Tensors: {dtype}

## Use

{use}

## Instruction

```
{instruction}
```

## Figures of the run

{figures}
"""

_PYTHON = """\
Insert the query into the instruction below and send it as the user message of the chat
template; the answer is the prompt. The instruction is also in `instruction.txt`.

```python
import pathlib, {imports}

folder = "PATH/OF/THIS/FOLDER"
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = {loads}.from_pretrained(folder)
instruction = pathlib.Path(folder, "instruction.txt").read_text()
content = instruction.replace("{{query}}", "a cat on a skateboard")
content = content.replace("{{notes}}", "")  # about the video model, if any
inputs = tokenizer.apply_chat_template(
  [{{"role": "user", "content": content}}],
  add_generation_prompt=True,
  return_tensors="pt",
  return_dict=True,
)
answer = model.generate(**inputs{sampling})[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```

With vLLM: `{vllm}`."""

_GGUF = """\
With Ollama, whose `Modelfile` inserts the query into the instruction:

```sh
ollama create vpo -f Modelfile
ollama run vpo "a cat on a skateboard"
```

llama.cpp and LM Studio do not read the Modelfile. Put the query in place of `{{query}}`
in the instruction below (`instruction.txt`) and send that as the user message, without
a system message; the answer is the prompt. The file has the sampling settings, but not
every program reads them: temperature {temperature}, top-p {top_p}, top-k 0, min-p 0 and
no repetition penalty."""


def figures(workdir: epath.PathLike) -> Figures:
  """Reads the counts of the run's finished stages."""
  found: Figures = {}
  for name in _STAGES:
    path = epath.Path(workdir) / name / stages.MANIFEST
    manifest = json_input.value(path) if path.exists() else {}
    if "counts" in manifest:
      found[name] = manifest["counts"]
      if name == "train_sft":
        found["base"] = {"model": manifest["config"].get("model", "")}
  return found


_MODEL = {
  "library": "transformers",
  "imports": "transformers",
  "loads": "transformers.AutoModelForCausalLM",
  "sampling": "",  # set by the generation config
  "vllm": "vllm serve PATH/OF/THIS/FOLDER",
}
_ADAPTER = {
  "library": "peft",
  "imports": "peft, transformers",
  "loads": "peft.AutoPeftModelForCausalLM",
  "sampling": ", max_new_tokens=512, do_sample=True, temperature=0.7",
}


def read_note(folder: epath.PathLike) -> str:
  """What the users of an exported model must know; "" for nothing."""
  path = epath.Path(folder) / NOTE
  return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def card(
  figures: Figures,
  instruction: str,
  dtype: str,
  *,
  adapter_of: str = "",
  note: str = "",
) -> str:
  """The text of README.md in a Hugging Face directory.

  Args:
    figures: from `figures`.
    instruction: the template that the model was trained with.
    dtype: of the tensors.
    adapter_of: base model, if the export is a LoRA adapter.
    note: what users of the model must know.
  """
  base = _base(figures)
  use: dict[str, str] = _MODEL | {"base": f"Base model: {base}"}
  if adapter_of:
    vllm = f"vllm serve {adapter_of} --enable-lora --lora-modules vpo=PATH"
    use = _ADAPTER | {"base": f"LoRA adapter to: {adapter_of}", "vllm": vllm}
  return _CARD.format(
    use=_PYTHON.format(**use),
    library=use["library"],
    base=use["base"],
    note=_note(note),
    dtype=dtype,
    instruction=instruction,
    figures=_table(figures),
  )


def gguf(figures: Figures, instruction: str, config: ml_collections.ConfigDict) -> str:
  """The text of README.md beside a GGUF file.

  Args:
    figures, instruction: as in `card`.
    config: see configs/export.py.
  """
  return _CARD.format(
    use=_GGUF.format(temperature=config.temperature, top_p=config.top_p),
    library="gguf",
    base=f"Base model: {_base(figures)}",
    note=_note(config.note),
    dtype=config.dtype,
    instruction=instruction,
    figures=_table(figures),
  )


def _note(note: str) -> str:
  return f"**{note}**\n\n" if note else ""


def _base(figures: Figures) -> str:
  return figures.get("base", {}).get("model") or "not recorded"


def _table(figures: Figures) -> str:
  rows = [
    f"| {name} | {key} | {_format(value)} |"
    for name in _STAGES
    for key, value in figures.get(name, {}).items()
    if isinstance(value, int | float | str)
  ]
  if not rows:
    return "No finished stage was found in the working directory."
  return "\n".join(["| stage | figure | value |", "|---|---|---|", *rows])


def _format(value: float | str) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)
