#!/usr/bin/env bash
# What the SLURM files have in common: the stage as one process a task. JAX finds the
# others in SLURM's variables. Training that saved on SIGTERM leaves with 75, sampling
# that SIGTERM ended with 143: the machine was wanted back, so the job goes into the queue
# again, and goes on from there.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
: "${WORKDIR:?a folder that all nodes share}"
stage="${STAGE:-train_dpo}"

code=0
srun --kill-on-bad-exit=1 .venv/bin/python "launch/$stage.py" \
  --workdir="$WORKDIR" "$@" || code=$?
if [ "$code" -eq 75 ] || [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
