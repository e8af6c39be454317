#!/bin/bash
# One machine, all of its GPUs:    recipes/launch/one_node.sh gpu recipes/stage2/imagenet256_dit_dh_xl.yaml
# Two processes on a CPU:          recipes/launch/one_node.sh 2 recipes/nano/generator.yaml
# The first word is the number of processes ("gpu": as many as there are GPUs), the rest goes to `raekit train`.
# SIGTERM, SIGUSR1 and Ctrl-C reach torchrun, which passes them on: each process finishes its step, saves and leaves within
# train.stop_seconds (five minutes). torchrun waits ten for that, where it would wait half a minute by itself, and SIGUSR1
# would end it alone, its processes left behind.
set -euo pipefail
processes=$1
shift
exec torchrun --standalone --nproc-per-node "$processes" --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
  --shutdown-timeout 600 -m raekit train "$@"
