"""Sizes of published models: the config.json by name, without their weights.

`launch/plan.py` plans for them, and `launch/bench.py` gives them random weights.
"""

from typing import Any

from vpo_jax.decoder import families


def _config(
  model_type: str,
  d_model: int,
  d_ff: int,
  layers: int,
  heads: int,
  kv_heads: int,
  vocab: int,
  **others: Any,
) -> dict[str, Any]:
  return {
    "architectures": [families.FAMILIES[model_type].architecture],
    "model_type": model_type,
    "hidden_size": d_model,
    "intermediate_size": d_ff,
    "num_hidden_layers": layers,
    "num_attention_heads": heads,
    "num_key_value_heads": kv_heads,
    "vocab_size": vocab,
    **others,
  }


def _llama3_rope(factor: float) -> dict[str, Any]:
  scaling = {
    "rope_type": "llama3",
    "factor": factor,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
  }
  context = {"max_position_embeddings": 131072}
  return context | {"rope_theta": 500000.0, "rope_scaling": scaling}


_LLAMA3 = {
  "max_position_embeddings": 8192,
  "rope_theta": 500000.0,
  "rms_norm_eps": 1e-5,
  "tie_word_embeddings": False,
}
_LLAMA32 = _LLAMA3 | _llama3_rope(32.0) | {"tie_word_embeddings": True}
_MISTRAL = {
  "head_dim": 128,
  "max_position_embeddings": 32768,
  "rope_theta": 1e6,
  "rms_norm_eps": 1e-5,
  "tie_word_embeddings": False,
}
_QWEN = {"max_position_embeddings": 32768, "rope_theta": 1e6, "rms_norm_eps": 1e-6}
_TIED, _UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
_QWEN3 = _QWEN | {"max_position_embeddings": 40960, "head_dim": 128}
_GEMMA2 = {"max_position_embeddings": 8192, "sliding_window": 4096}
_GEMMA3_SMALL = {"max_position_embeddings": 32768, "sliding_window": 512}
_GEMMA3 = {
  "max_position_embeddings": 131072,
  "sliding_window": 1024,
  "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}

MODELS: dict[str, dict[str, Any]] = {
  "smollm2-135m": _config(
    "llama", 576, 1536, 30, 9, 3, 49152, **_LLAMA3 | _TIED | {"rope_theta": 100000.0}
  ),
  "smollm3-3b": _config(
    "smollm3",
    2048,
    11008,
    36,
    16,
    4,
    128256,
    max_position_embeddings=65536,
    rope_theta=5e6,
    tie_word_embeddings=True,
  ),
  "llama3-8b": _config("llama", 4096, 14336, 32, 32, 8, 128256, **_LLAMA3),
  "llama3.1-8b": _config(
    "llama", 4096, 14336, 32, 32, 8, 128256, **_LLAMA3 | _llama3_rope(8.0)
  ),
  "llama3.2-1b": _config(
    "llama", 2048, 8192, 16, 32, 8, 128256, **_LLAMA32, head_dim=64
  ),
  "llama3.2-3b": _config(
    "llama", 3072, 8192, 28, 24, 8, 128256, **_LLAMA32, head_dim=128
  ),
  "mistral-7b": _config("mistral", 4096, 14336, 32, 32, 8, 32768, **_MISTRAL),
  "mistral-nemo-12b": _config(
    "mistral",
    5120,
    14336,
    40,
    32,
    8,
    131072,
    **_MISTRAL | {"max_position_embeddings": 131072},
  ),
  "qwen2.5-0.5b": _config("qwen2", 896, 4864, 24, 14, 2, 151936, **_QWEN | _TIED),
  "qwen2.5-1.5b": _config("qwen2", 1536, 8960, 28, 12, 2, 151936, **_QWEN | _TIED),
  "qwen2.5-3b": _config("qwen2", 2048, 11008, 36, 16, 2, 151936, **_QWEN | _TIED),
  "qwen2.5-7b": _config("qwen2", 3584, 18944, 28, 28, 4, 152064, **_QWEN | _UNTIED),
  "qwen2.5-14b": _config("qwen2", 5120, 13824, 48, 40, 8, 152064, **_QWEN | _UNTIED),
  "qwen3-0.6b": _config("qwen3", 1024, 3072, 28, 16, 8, 151936, **_QWEN3 | _TIED),
  "qwen3-1.7b": _config("qwen3", 2048, 6144, 28, 16, 8, 151936, **_QWEN3 | _TIED),
  "qwen3-4b": _config("qwen3", 2560, 9728, 36, 32, 8, 151936, **_QWEN3 | _TIED),
  "qwen3-8b": _config("qwen3", 4096, 12288, 36, 32, 8, 151936, **_QWEN3 | _UNTIED),
  "gemma2-2b": _config("gemma2", 2304, 9216, 26, 8, 4, 256000, **_GEMMA2),
  "gemma2-9b": _config("gemma2", 3584, 14336, 42, 16, 8, 256000, **_GEMMA2),
  "gemma3-270m": _config("gemma3_text", 640, 2048, 18, 4, 1, 262144, **_GEMMA3_SMALL),
  "gemma3-1b": _config("gemma3_text", 1152, 6912, 26, 4, 1, 262144, **_GEMMA3_SMALL),
  "gemma3-4b": _config("gemma3_text", 2560, 10240, 34, 8, 4, 262208, **_GEMMA3),
  "gemma3-12b": _config("gemma3_text", 3840, 15360, 48, 16, 8, 262208, **_GEMMA3),
}
