"""The trained optimizer as a Python object, for programs that make videos.

from vpo_jax import rewriter

rewrite = rewriter.Rewriter("runs/mine/vpo")
pipe(prompt=rewrite("a cat on a skateboard", target="cogvideox-5b"))
"""

import functools
from collections.abc import Sequence

from vpo_jax import errors
from vpo_jax.predict import predictor as predictors
from vpo_jax.promises import targets
from vpo_jax.runtime import compilation
from vpo_jax.sample import lm, settings
from vpo_jax.serve import optimize

_DEFAULTS = settings.Settings()  # the release's


class Rewriter:
  """A loaded model that rewrites queries into prompts for a text-to-video model."""

  def __init__(
    self,
    model: str,
    *,
    precision: str = "float32",
    instruction: str = "",
    predictor: str = "",
  ):
    """Loads the model.

    Args:
      model: a directory, a hub id, or "smollm2-135m-instruct".
      precision: see `lm.load`.
      instruction: path of a template; "" is the model's own.
      predictor: folder of the stage train_predictor, trained with this model; needed
        for `best_of`.

    Raises:
      UserError: one of them cannot be loaded, or they do not belong together.
    """
    compilation.enable_cache()
    self._predictor = predictors.load(predictor) if predictor else None
    self._model = lm.load(model, precision=precision, instruction=instruction)
    if self._predictor:
      self._predictor.check(self._model)
    self._target = functools.cache(targets.load)

  def __call__(self, query: str, **options) -> str:
    """The prompt for a query; takes the arguments of `optimize`.

    Raises:
      UserError: as `optimize`, or no attempt gave a usable prompt.
    """
    result = self.optimize(query, **options)
    if result.problem:
      raise errors.UserError(
        f"the prompt for {query!r} {result.problem}; tried {optimize.ATTEMPTS} times"
      )
    return result.prompt

  def optimize(
    self,
    query: str,
    *,
    target: str = "",
    seed: int = 0,
    temperature: float = _DEFAULTS.temperature,
    max_new_tokens: int = _DEFAULTS.max_new_tokens,
    keep: Sequence[str] = (),
    best_of: int = 1,
  ) -> optimize.Optimized:
    """The prompt for a query, with what is known about it.

    Args:
      target: the video model: a name of configs/targets or a JSON file; "" is any.
      seed: the same one gives the same prompt.
      temperature: 0 is greedy decoding.
      max_new_tokens: at most so many tokens of the language model.
      keep: words that the prompt must contain unchanged, as it must text in quotes and
        tags in angle brackets.
      best_of: the number of prompts of which the predictor chooses one.

    Raises:
      UserError: the target cannot be read, or `best_of` has no predictor.
    """
    if best_of > 1 and not self._predictor:
      raise errors.UserError(f"best_of={best_of}: needs Rewriter(..., predictor=...)")
    sampling = settings.Settings(
      num_candidates=best_of,
      temperature=temperature,
      max_new_tokens=max_new_tokens,
      seed=seed,
    )
    return optimize.optimize(
      self._model,
      [query],
      sampling,
      slots=best_of,
      predictor=self._predictor if best_of > 1 else None,
      keep=keep,
      target=self._target(target) if target else None,
    )[0]
