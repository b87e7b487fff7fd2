"""A model server that runs only while a stage needs it."""

import contextlib
import dataclasses
import importlib

import ml_collections

from vpo_jax import errors
from vpo_jax.teacher import texts as texts_lib


def serve(
  config: ml_collections.ConfigDict, texts: texts_lib.Texts
) -> contextlib.AbstractContextManager[str]:
  """Returns a context manager that runs the server and yields its base URL.

  `config.server` is a module path. Its `serve(options, texts)` gets
  `config.server_options` and the stage's template texts by name, as dictionaries, and
  returns such a context manager. Invalid options raise a ValueError before anything
  starts. Without a module, the base URL is `config.base_url`.

  Args:
    config: the teacher's config (configs/teacher.py).
    texts: the templates of the requests that will be sent.

  Raises:
    UserError: the module cannot be imported, has no `serve`, or rejects its options.
  """
  if not config.server:
    return contextlib.nullcontext(config.base_url)
  if config.base_url:
    raise errors.UserError(
      f"config.teacher.server={config.server!r} starts a server, and"
      f" config.teacher.base_url={config.base_url!r} names a running one; set only one"
    )
  try:
    module = importlib.import_module(config.server)
    return module.serve(config.server_options.to_dict(), dataclasses.asdict(texts))
  except (ImportError, AttributeError, ValueError) as error:
    problem = f"config.teacher.server={config.server!r}: {error}"
    raise errors.UserError(problem) from error
