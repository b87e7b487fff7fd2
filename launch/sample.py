r"""Samples K candidates for every query of the DPO half (paper, section 3.3).

    python launch/sample.py --config=configs/sample.py --workdir=runs/mine

Reads curate/dpo.jsonl and train_sft/model; writes candidates.jsonl and set_aside.jsonl
to <workdir>/sample. Killed and run again, it makes only what is missing. Several
processes may share a workdir: processes of one run (SLURM, a TPU pod, Kubernetes, or
--coordinator_address) do; others are given --share=0/4, --share=1/4 and so on.
"""

import jax
from absl import flags

from vpo_jax import errors
from vpo_jax.runtime import app, compilation, console
from vpo_jax.sample import candidates

_SHARE = flags.DEFINE_string("share", "0/1", "i/n: every n-th query, from the i-th on.")


def sample(config, workdir: str) -> None:
  index, _, count = _SHARE.value.partition("/")
  if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
    raise errors.UserError(f"--share={_SHARE.value}: wants i/n with i < n, as 0/4")
  compilation.enable_cache(workdir)
  counts = candidates.run(config, workdir, (int(index), int(count)))
  console.say(" ".join(f"{name}={value}" for name, value in counts.items()))


if __name__ == "__main__":
  # SIGTERM ends it at once, for what is made is kept; JAX would keep it for a saver.
  jax.config.update("jax_enable_preemption_service", False)
  app.run_stage(sample, "sample.py", together=True)
