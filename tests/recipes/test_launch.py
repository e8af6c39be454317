"""The launch scripts: their syntax, the commands they come to, what a signal does, and one real run of two processes.

Slurm, SkyPilot and several machines are stood in for by small programs that write down how they were called.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import raekit
import tiny_recipes
from raekit.config import dump_yaml

LAUNCH = Path(__file__).parents[2] / "recipes/launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))
SKYPILOT = yaml.safe_load((LAUNCH / "skypilot.yml").read_text(encoding="utf-8"))

PATIENT = "--signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 600"
"""Of torchrun: what it passes on to its processes, and how long it waits for them to save."""

SRUN = """#!/bin/bash
# One process after the other, as Slurm numbers them; SIGUSR1 reaches each of them.
trap 'kill -USR1 $(jobs -p)' USR1
shift
for number in 0 1; do SLURM_PROCID=$number SLURM_LOCALID=$number SLURM_NTASKS=2 SLURM_JOB_NUM_NODES=1 "$@" & done
wait; wait
"""
RAEKIT = """#!/bin/bash
# Writes down who it is and what it was told, then works until it is asked to stop.
echo "$RANK of $WORLD_SIZE ($LOCAL_RANK of $LOCAL_WORLD_SIZE) at $MASTER_ADDR:$MASTER_PORT: $*" >>"$LOG"
trap 'echo "saved $RANK" >>"$LOG"; exit 0' USR1
if [[ $* == *--resume* ]]; then exit 0; fi
for _ in {1..200}; do sleep 0.1; done
exit 9
"""
SCONTROL = """#!/bin/bash
if [[ $1 == show ]]; then echo node7; echo node8; else echo "scontrol $*" >>"$LOG"; fi
"""
TORCHRUN = """#!/bin/bash
echo "torchrun $*" >>"$LOG"
"""


@pytest.fixture
def stage(tmp_path: Path) -> dict[str, str]:
    """An environment in which the launchers are stand-ins, and ``LOG`` is where they write."""
    for name, text in {"srun": SRUN, "raekit": RAEKIT, "scontrol": SCONTROL, "torchrun": TORCHRUN}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    settings = {"LOG": str(tmp_path / "log"), "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "12345"}
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **settings}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    assert "--resume" in script.read_text(encoding="utf-8") or script.suffix == ".sh"


def test_several_nodes(stage: dict[str, str]) -> None:
    subprocess.run([LAUNCH / "several_nodes.sh", "2", "1", "head", "r.yaml", "--run", "x"], check=True, env=stage)
    assert Path(stage["LOG"]).read_text(encoding="utf-8") == (
        "torchrun --nnodes 2 --node-rank 1 --master-addr head --master-port 29500 --nproc-per-node gpu "
        f"{PATIENT} -m raekit train r.yaml --run x\n"
    )


def test_slurm_passes_sigterm_on_and_leaves_queueing_to_slurm(stage: dict[str, str], tmp_path: Path) -> None:
    log = Path(stage["LOG"])
    with subprocess.Popen(["bash", LAUNCH / "slurm.sbatch", "r.yaml", tmp_path / "run"], env=stage) as job:
        wait_for(lambda: log.is_file() and len(log.read_text().splitlines()) == 2)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == 0
    assert sorted(log.read_text(encoding="utf-8").splitlines())[2:] == ["saved 0", "saved 1"]


def test_slurm_passes_the_signal_on_saves_queues_again_and_resumes(stage: dict[str, str], tmp_path: Path) -> None:
    command, log = ["bash", LAUNCH / "slurm.sbatch", "r.yaml", tmp_path / "run", "--set", "seed=3"], Path(stage["LOG"])
    with subprocess.Popen(command, env=stage) as job:
        wait_for(lambda: log.is_file() and len(log.read_text().splitlines()) == 2)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=30) == 0
    lines = sorted(log.read_text(encoding="utf-8").splitlines())
    told = f"at node7:22345: train r.yaml --run {tmp_path / 'run'} --set seed=3"
    assert lines[:2] == [f"0 of 2 (0 of 2) {told}", f"1 of 2 (1 of 2) {told}"]
    assert lines[2:] == ["saved 0", "saved 1", "scontrol requeue 12345"]
    (tmp_path / "run/checkpoints/step_00000002").mkdir(parents=True)
    subprocess.run(command, check=True, env=stage)
    assert log.read_text(encoding="utf-8").splitlines()[-1].endswith(f"{told} --resume")


def test_skypilot(stage: dict[str, str]) -> None:
    assert set(SKYPILOT) <= {"name", "num_nodes", "workdir", "resources", "volumes", "envs", "setup", "run"}
    assert set(SKYPILOT["volumes"]) == {"/runs"}, "no bucket: those neither append nor are seen by all nodes at once"
    told = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    env = {**stage, **SKYPILOT["envs"], **told, "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", SKYPILOT["run"]], check=True, env=env)
    assert Path(stage["LOG"]).read_text(encoding="utf-8") == (
        "torchrun --nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500 --nproc-per-node 8 "
        f"{PATIENT} -m raekit train recipes/stage2/t2i_pretrain_2.4b.yaml --run /runs/t2i_pretrain_2.4b\n"
    )
    assert (LAUNCH.parents[1] / SKYPILOT["envs"]["RECIPE"]).is_file()


@pytest.fixture
def one_node(tmp_path: Path) -> tuple[list[str | Path], dict[str, str]]:
    """The real torchrun and the real command line, two processes on a CPU: words and environment."""
    recipe, values = tmp_path / "recipe.yaml", tiny_recipes.encoder(tmp_path)
    recipe.write_text(dump_yaml(tiny_recipes.resolve(values, steps=2)), encoding="utf-8")
    source, path = str(Path(raekit.__file__).parents[1]), f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return [LAUNCH / "one_node.sh", "2", recipe], {**os.environ, "PATH": path, "PYTHONPATH": source}


def test_two_processes_of_one_machine_train(one_node: tuple[list[str | Path], dict[str, str]], tmp_path: Path) -> None:
    command, env = one_node
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1 and (tmp_path / "run/encoder").is_dir()


@pytest.mark.slow
def test_a_signal_to_torchrun_reaches_its_processes_which_save(
    one_node: tuple[list[str | Path], dict[str, str]], tmp_path: Path
) -> None:
    command, env = one_node
    command += ["--set", "train.steps=1000000", "--set", "train.save_every_steps=1000000"]
    log, checkpoints = tmp_path / "run/metrics.jsonl", tmp_path / "run/checkpoints"
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as job:
        wait_for(lambda: log.is_file() and log.read_text(), seconds=300)
        job.send_signal(signal.SIGUSR1)
        _, told = job.communicate(timeout=300)
    assert "Received 10 death signal" in told and "forcefully" not in told
    (saved,) = checkpoints.iterdir()
    assert saved.name.startswith("step_") and (saved / "manifest.json").is_file()


def wait_for(is_so: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
