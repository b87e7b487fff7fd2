"""Reads the keys of a config.json that several families have."""

from typing import Any

from vpo_jax import errors
from vpo_jax.decoder import rope as ropes


class Reader:
  """A config.json, with one line for each thing that is missing or not supported."""

  def __init__(self, hf: dict[str, Any], where: str):
    self._hf, self._where = hf, where

  def __getitem__(self, key: str) -> Any:
    """The value of a key.

    Raises:
      UserError: it is missing.
    """
    if self._hf.get(key) is None:
      raise errors.UserError(f"{self._where}: {key} is missing")
    return self._hf[key]

  def get(self, key: str, default: Any = None) -> Any:
    """The value of a key, or `default` if it is missing or null."""
    value = self._hf.get(key)
    return default if value is None else value

  def require(self, key: str, expected: Any) -> None:
    """Raises UserError if a key is there and has another value than `expected`."""
    if self.get(key, expected) != expected:
      raise errors.UserError(
        f"{self._where}: {key} {self._hf[key]!r} is not supported, only {expected!r}"
      )

  @property
  def layers(self) -> int:
    return self["num_hidden_layers"]

  @property
  def heads(self) -> int:
    return self["num_attention_heads"]

  @property
  def head_dim(self) -> int:
    return self.get("head_dim", self["hidden_size"] // self.heads)

  @property
  def context(self) -> int:
    return self.get("max_position_embeddings", 2048)

  def tied(self, default: bool) -> bool:
    """Whether the output head is the embedding."""
    return bool(self.get("tie_word_embeddings", default))

  def rope(self, theta: float = 10000.0) -> ropes.Rope:
    """The RoPE that all layers share; `theta` is the family's default base."""
    parameters = self.get("rope_parameters") or self.get("rope_scaling") or {}
    return self.rope_from(parameters, float(self.get("rope_theta", theta)))

  def rope_from(self, parameters: dict[str, Any], theta: float) -> ropes.Rope:
    """The RoPE of the layers that have these `rope_parameters`."""
    return ropes.read(parameters, self.head_dim, theta, self.context, self._where)

  def layer_types(self, default: list[str]) -> list[str]:
    """Each layer's type: "full_attention" or "sliding_attention".

    Raises:
      UserError: a type is another one, or there are more or fewer than layers.
    """
    types = self.get("layer_types", default)
    if len(types) != self.layers:
      raise errors.UserError(
        f"{self._where}: {len(types)} layer_types for {self.layers} layers"
      )
    if unknown := set(types) - {"full_attention", "sliding_attention"}:
      raise errors.UserError(
        f"{self._where}: layer_types has {min(unknown)!r}, which is not supported"
      )
    return types

  def windows(self, types: list[str]) -> list[int | None]:
    """Each layer's window, in tokens; None for layers that see everything."""
    return [
      self["sliding_window"] if kind == "sliding_attention" else None for kind in types
    ]
