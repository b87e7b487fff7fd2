#!/usr/bin/env bash
# Runs one stage on all hosts of a Cloud TPU slice, from your own machine:
#
#   TPU=vpo ZONE=us-east5-a BUCKET=gs://mine/vpo STAGE=train_dpo \
#     launch/cluster/tpu_vm.sh --config.mesh.tensor=2
#
# The slice must exist (`gcloud compute tpus tpu-vm create`), and its hosts must be able to
# read the repository and the bucket. JAX finds the hosts in the slice's metadata. After a
# preemption, create the slice again and repeat the command: the stage resumes. Nobody has
# run this yet: gs:// is less tested than s3:// (docs/scaling.md, "Buckets").
set -euo pipefail
: "${TPU:?the name of the slice}" "${ZONE:?the zone of the slice}"
: "${BUCKET:?the workdir, gs://...}"
stage="${STAGE:-train_dpo}"
repository="${REPOSITORY:?the URL that hosts clone this project from}"

printf -v arguments '%q ' "--workdir=$BUCKET" "$@"
read -r -d '' command <<END || true
set -eu
[ -d vpo-jax ] || git clone --depth=1 '$repository' vpo-jax
cd vpo-jax
[ -d .venv ] || python3 -m venv .venv
tested=constraints.txt
.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' &&
  tested=constraints-3.12.txt
.venv/bin/pip install --quiet -c "\$tested" -e '.[tpu]' gcsfs
.venv/bin/python launch/$stage.py $arguments
END
gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$command"
