#!/bin/bash
# Several machines of equal GPUs, by hand: start this on each of them, the first one (number 0) is the HEAD.
#   recipes/launch/several_nodes.sh NODES NUMBER HEAD RECIPE [what else `raekit train` takes]
#   recipes/launch/several_nodes.sh 2 0 10.0.0.1 recipes/stage2/t2i_pretrain_2.4b.yaml     # on 10.0.0.1
#   recipes/launch/several_nodes.sh 2 1 10.0.0.1 recipes/stage2/t2i_pretrain_2.4b.yaml     # on the other
# The run directory must lie on a disk that all of them see. A signal to one of them stops all, after the same step
# (one_node.sh says how).
set -euo pipefail
nodes=$1 number=$2 head=$3
shift 3
exec torchrun --nnodes "$nodes" --node-rank "$number" --master-addr "$head" --master-port 29500 \
  --nproc-per-node gpu --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 600 \
  -m raekit train "$@"
