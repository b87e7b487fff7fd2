"""The families of models: what each has that others do not, by its `model_type`.

A family is a module with a function `features`, which turns a config.json into those
fields of `DecoderConfig` that differ between families. See docs/families.md.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from vpo_jax import errors
from vpo_jax.decoder.families import gemma, llama, mistral, qwen, smollm3
from vpo_jax.decoder.families.hf_config import Reader


@dataclasses.dataclass(frozen=True)
class Family:
  """One `model_type` of transformers.

  Attributes:
    architecture: transformers' class of the language model.
    features: the fields of `DecoderConfig` that depend on the family, and `ropes` and
      `windows` with an entry for each layer.
    defaults: values of keys that a config.json may lack, as in transformers' class.
    text_type: `model_type` of the language model alone, if this is a model of text and
      images, whose config.json has it under `text_config`.
  """

  architecture: str
  features: Callable[[Reader], dict[str, Any]]
  defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
  text_type: str = ""

  def text_config(self, hf: dict[str, Any]) -> dict[str, Any]:
    """The config of the language model alone, with defaults."""
    if not self.text_type:
      return self.defaults | hf
    ends = {key: hf[key] for key in _TOKENS if hf.get(key) is not None}
    named = {"model_type": self.text_type, "architectures": [self.architecture]}
    return self.defaults | hf["text_config"] | ends | named


_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")

FAMILIES = {
  "llama": Family("LlamaForCausalLM", llama.features),
  "mistral": Family("MistralForCausalLM", mistral.features, mistral.DEFAULTS),
  "qwen2": Family("Qwen2ForCausalLM", qwen.qwen2),
  "qwen3": Family("Qwen3ForCausalLM", qwen.qwen3, qwen.QWEN3_DEFAULTS),
  "smollm3": Family("SmolLM3ForCausalLM", smollm3.features, smollm3.DEFAULTS),
  "gemma2": Family("Gemma2ForCausalLM", gemma.gemma2, gemma.GEMMA2_DEFAULTS),
  "gemma3_text": Family("Gemma3ForCausalLM", gemma.gemma3, gemma.GEMMA3_DEFAULTS),
  "gemma3": Family(
    "Gemma3ForCausalLM", gemma.gemma3, gemma.GEMMA3_DEFAULTS, text_type="gemma3_text"
  ),
}


def of(hf: dict[str, Any], where: str = "config") -> Family:
  """The family of a config.json.

  Raises:
    UserError: it is not one of `FAMILIES`.
  """
  family = FAMILIES.get(str(hf.get("model_type")))
  if family is None:
    raise errors.UserError(
      f"{where}: model_type {hf.get('model_type')!r} is not one of"
      f" {', '.join(FAMILIES)}"
    )
  return family
