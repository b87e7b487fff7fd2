"""JAX's persistent compilation cache."""

import jax
from etils import epath

from vpo_jax import files


def enable_cache(workdir: epath.PathLike = "") -> None:
  """Stores compiled programs on disk for later processes.

  A cache directory from JAX's environment variable takes precedence.

  Args:
    workdir: its folder `compiled` holds the programs, shared by all machines of a run;
      "" means the user's cache folder.
  """
  if jax.config.values["jax_compilation_cache_dir"] is None:
    folder = epath.Path(workdir or files.cache_folder()) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
