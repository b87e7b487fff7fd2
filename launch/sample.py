"""Samples K candidates for every query of the DPO half (paper, section 3.3).

    python launch/sample.py --config=configs/sample.py --workdir=runs/mine

Reads curate/dpo.jsonl and train_sft/model; writes candidates.jsonl and set_aside.jsonl
to <workdir>/sample. A killed run continues. The processes of one distributed run
(SLURM, a TPU pod, Kubernetes, or --coordinator_address) divide the queries. On hosts
that only share the workdir, set --config.share=0/4, --config.share=1/4 and so on.
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("vpo_jax.sample.candidates", "sample.py", distributed=True)
