"""JAX's persistent compilation cache."""

import jax
from etils import epath

from vpo_jax import files


def enable_cache(workdir: epath.PathLike = "") -> None:
  """Stores compiled programs on disk, so that the next process need not compile them.

  A cache directory that JAX already has, from its environment variable, is kept.

  Args:
    workdir: programs go to its folder `compiled`, which all machines of a run share;
      "" takes the user's cache folder.
  """
  if jax.config.values["jax_compilation_cache_dir"] is None:
    folder = epath.Path(workdir or files.cache_folder()) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
