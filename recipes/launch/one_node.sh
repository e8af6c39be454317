#!/bin/bash
# One machine, all of its GPUs:    recipes/launch/one_node.sh gpu recipes/stage2/imagenet256_dit_dh_xl.yaml
# Two processes on a CPU:          recipes/launch/one_node.sh 2 recipes/nano/generator.yaml
# The first word is the number of processes ("gpu": as many as there are GPUs), the rest goes to `raekit train`.
# On SIGTERM or Ctrl-C each process saves and leaves; torchrun waits ten minutes for that, then ends them.
set -euo pipefail
processes=$1
shift
exec torchrun --standalone --nproc-per-node "$processes" --shutdown-timeout 600 -m raekit train "$@"
