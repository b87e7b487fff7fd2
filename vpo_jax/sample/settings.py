"""How candidates are drawn."""

import dataclasses
import hashlib

import numpy as np

from vpo_jax import errors

# Less than these is nothing in float32 sums of a vocabulary.
COLDEST = 1e-3
NARROWEST = 1e-6


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is asked of the sampler for one prompt.

  Attributes:
    num_candidates: K, candidates of a query.
    temperature: 0 takes the most probable token at each step; else from `COLDEST` on.
    top_p: the nucleus, from `NARROWEST` on; 1 keeps all tokens.
    top_k: 0 keeps all tokens.
    max_new_tokens: a candidate that has not ended by then is cut off.
    seed: with the prompt and the candidate's index, all that its noise depends on.
    ignore_eos: write on past the end token (for measurements).
  """

  num_candidates: int = 1
  temperature: float = 0.7  # release, inference
  top_p: float = 1.0  # release, inference
  top_k: int = 0
  max_new_tokens: int = 512
  seed: int = 0
  ignore_eos: bool = False

  def __post_init__(self):
    limits = {
      "num_candidates": self.num_candidates >= 1,
      "temperature": self.temperature == 0
      or COLDEST <= self.temperature < float("inf"),
      "top_p": NARROWEST <= self.top_p <= 1,
      "top_k": self.top_k >= 0,
      "max_new_tokens": self.max_new_tokens >= 1,
    }
    for name, good in limits.items():
      if not good:
        raise errors.UserError(f"{name}={getattr(self, name)} is out of range")


def noise_key(seed: int, prompt: str, index: int) -> np.ndarray:
  """A candidate's random key: uint32 [2], from what names it and nothing else."""
  digest = hashlib.sha256(f"{seed}\n{index}\n{prompt}".encode()).digest()
  return np.frombuffer(digest[:8], "<u4").astype(np.uint32)
