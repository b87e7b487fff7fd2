#!/usr/bin/env bash
# Runs the stage, one process per SLURM task; JAX finds the other processes in SLURM's
# environment variables. After SIGTERM (preemption or the time limit) training saves a
# checkpoint and exits with 75, as it does when a step hangs; sampling exits with 143. The
# job is then requeued and resumes.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
: "${WORKDIR:?a folder that all nodes share}"
stage="${STAGE:-train_dpo}"

code=0
srun --kill-on-bad-exit=1 .venv/bin/python "launch/$stage.py" \
  --workdir="$WORKDIR" "$@" || code=$?
# 134: a process waited for one that was lost, perhaps with its node. That is tried three
# times, in case it was lost to an error of its own.
if [ "$code" -eq 75 ] || [ "$code" -eq 143 ] ||
  { [ "$code" -eq 134 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
