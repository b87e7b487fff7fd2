"""Sampling settings."""

import dataclasses
import hashlib

import numpy as np

from vpo_jax import errors

# Smaller values underflow float32 sums over the vocabulary.
MIN_TEMPERATURE = 1e-3
MIN_TOP_P = 1e-6


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sampling settings of one prompt.

  Attributes:
    num_candidates: number of candidates per query (K in the paper).
    temperature: 0 for the most probable token at each step, else at least
      `MIN_TEMPERATURE`.
    top_p: probability of the nucleus, at least `MIN_TOP_P`; 1 for all tokens.
    top_k: 0 for all tokens.
    max_new_tokens: limit on the tokens of a candidate.
    seed: a candidate's noise depends on the seed, the prompt and the candidate's index.
    ignore_eos: whether to continue after a stop token (for benchmarks).
  """

  num_candidates: int = 1
  temperature: float = 0.7  # release, inference
  top_p: float = 1.0  # release, inference
  top_k: int = 0
  max_new_tokens: int = 512
  seed: int = 0
  ignore_eos: bool = False

  def __post_init__(self):
    valid = {
      "num_candidates": self.num_candidates >= 1,
      "temperature": self.temperature == 0
      or MIN_TEMPERATURE <= self.temperature < float("inf"),
      "top_p": MIN_TOP_P <= self.top_p <= 1,
      "top_k": self.top_k >= 0,
      "max_new_tokens": self.max_new_tokens >= 1,
    }
    for name, is_valid in valid.items():
      if not is_valid:
        raise errors.UserError(f"{name}={getattr(self, name)} is out of range")


def noise_key(seed: int, prompt: str, index: int) -> np.ndarray:
  """The random key of a candidate, uint32 [2], as a hash of the arguments."""
  digest = hashlib.sha256(f"{seed}\n{index}\n{prompt}".encode()).digest()
  return np.frombuffer(digest[:8], "<u4").astype(np.uint32)
