#!/usr/bin/env bash
# Runs one stage on several SLURM nodes of 8 x H800, one process per GPU:
#
#   WORKDIR=/shared/vpo STAGE=train_dpo sbatch --nodes=4 launch/cluster/h800_nodes.sh
#
# Arguments are passed to the stage, for example --config.mesh.tensor=2. If NCCL does not
# find the network, set NCCL_SOCKET_IFNAME and NCCL_IB_HCA.
#SBATCH --job-name=vpo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
exec bash "${SLURM_SUBMIT_DIR:?submit it with sbatch}/launch/cluster/step.sh" "$@"
