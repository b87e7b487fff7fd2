"""Log-probabilities of the responses of a packed forest."""

import dataclasses

import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from vpo_jax.data import forest
from vpo_jax.decoder import attention, head, model, sharding
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder.table import Params


@dataclasses.dataclass(frozen=True)
class Policy:
  """The language model as training computes it.

  Attributes:
    precision: dtype of the operands of matrix products, "float32" or "bfloat16".
      Results, softmax and the residual stream are float32 in both cases.
    remat: what the backward pass recomputes; see `model.hidden`.
    rows: the sharding of a micro-batch's groups (`sharding.Placement.batch`); None
      leaves it to XLA.
  """

  config: decoder_config.DecoderConfig
  precision: str = "float32"
  remat: model.Remat = "none"
  rows: NamedSharding | None = None

  def token_logps(
    self, params: Params, batch: forest.Forest, shape: forest.Shape
  ) -> Float[Array, "G P"]:
    """Log-probability of each predicted token given those before it, in nats."""
    devices = 1 if self.rows is None else self.rows.mesh.size
    attend = attention.forest(
      self.config,
      jnp.asarray(batch.tree_GRT),
      jnp.asarray(batch.branch_GRT),
      jnp.asarray(batch.positions_GL),
      jnp.asarray(batch.stem_G),
      self.precision,
      self.rows,
    )
    x_GLD, _ = model.hidden(
      params,
      jnp.asarray(batch.tokens_GL),
      jnp.asarray(batch.positions_GL),
      attend,
      self.config,
      dtype=self.precision,
      remat=self.remat,
      row_sharding=self.rows,
      unroll=self.rows is not None and sharding.one_gpu(self.rows),
    )
    x_GPD = jnp.take_along_axis(x_GLD, batch.source_GP[..., None], axis=1)
    return head.logps(
      x_GPD,
      model.head(params),
      jnp.asarray(batch.target_GP),
      head.blocks(shape.predict, self.config.vocab, devices),
      self.precision,
      self.config.logit_cap,
    )
