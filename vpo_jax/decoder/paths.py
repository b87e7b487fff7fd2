"""Which tokens a token attends to in a packed forest: those on its path to the root.

Each token has the code of its branch; the trunk of a tree is its branch 0. A key is on
the path of a query if it belongs to the stem, to the trunk of the query's tree or to
the query's branch, and is not deeper than the query.
"""

from typing import Any

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

STEM = -1  # code of keys that are on every path
NEVER = -2  # code of keys that are on no path
OUTSIDE = -3  # code of queries without a path
_BRANCHES = 4096  # codes of a tree; more than any example has responses


@flax.struct.dataclass
class Paths:
  """The paths of T queries among S keys, for each of B rows.

  The fields are int32 and have no annotations because JAX also fills the pytree with
  objects of its own.

  Attributes:
    query_BT: code of each query's branch.
    trunk_BT: code of the trunk of each query's tree.
    key_BS: code of each key's branch, `STEM` or `NEVER`.
    query_depth_BT, key_depth_BS: positions on the path, from 0.
  """

  query_BT: Any
  trunk_BT: Any
  key_BS: Any
  query_depth_BT: Any
  key_depth_BS: Any

  def mask(self, window: int | None = None) -> Bool[Array, "B T S"]:
    """True where a query attends to a key.

    Args:
      window: most tokens that a query attends to, itself included; None for all.
    """
    key_B1S = self.key_BS[:, None]
    on_path = (
      (key_B1S == STEM)
      | (key_B1S == self.trunk_BT[..., None])
      | (key_B1S == self.query_BT[..., None])
    )
    distance = self.query_depth_BT[..., None] - self.key_depth_BS[:, None]
    near = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    return on_path & near


def of_forest(
  tree_GRT: Int[Array, "G R T"],
  branch_GRT: Int[Array, "G R T"],
  depth_GL: Int[Array, "G L"],
  stem_G: Int[Array, " G"],
) -> tuple[Paths, Paths]:
  """The paths of a packed forest (`data.forest`).

  Args:
    tree_GRT: index of each token's tree in its group; 0 for padding.
    branch_GRT: 0 in the tree's trunk, b > 0 in its branch b.
    depth_GL: position of each token of [stem | row 0 | row 1 | ...] on its path.
    stem_G: number of tokens in the group's stem; the rest of its positions is padding,
      which attends to the stem but is never attended to.

  Returns: the paths of the rows, whose keys are those of the stem and of the row, and
    the paths of the stem.
  """
  G, R, T = tree_GRT.shape
  stem = depth_GL.shape[1] - R * T
  trunk_BT = tree_GRT.reshape(G * R, T) * _BRANCHES
  query_BT = trunk_BT + branch_GRT.reshape(G * R, T)
  depth_BT = depth_GL[:, stem:].reshape(G * R, T)
  in_stem_GS = jnp.arange(stem)[None] < stem_G[:, None]
  stem_GS = jnp.where(in_stem_GS, STEM, NEVER)
  stem_depth_GS = depth_GL[:, :stem]

  def of_each_row(x_GS: Array) -> Array:
    return jnp.broadcast_to(x_GS[:, None], (G, R, stem)).reshape(G * R, stem)

  rows = Paths(
    query_BT=query_BT,
    trunk_BT=trunk_BT,
    key_BS=jnp.concatenate([of_each_row(stem_GS), query_BT], axis=1),
    query_depth_BT=depth_BT,
    key_depth_BS=jnp.concatenate([of_each_row(stem_depth_GS), depth_BT], axis=1),
  )
  everywhere = jnp.full_like(stem_depth_GS, STEM)
  return rows, Paths(
    query_BT=everywhere,
    trunk_BT=everywhere,
    key_BS=everywhere,
    query_depth_BT=stem_depth_GS,
    key_depth_BS=stem_depth_GS,
  )
