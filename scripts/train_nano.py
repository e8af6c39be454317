"""Train the whole nano family in one resumable call, and bundle what came out of it.

    python scripts/train_nano.py            # data and all stages, each continued where it was stopped
    python scripts/train_nano.py --bundle   # also replace src/raekit/models/nano by the result

In: nothing but the recipes in recipes/nano. Out: runs below runs/nano, and with --bundle the package's own model.
Started again after any interruption it goes on from the newest checkpoint of the stage it was in; stages that are
finished are left alone. --seconds N stops after N seconds with a checkpoint, for machines that are lent by the minute.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "encoder": "encoder",
    "decoder_bundled": "autoencoder",
    "generator": "generator",
    "generator_unified": "generator",
    "unified": "generator",
    "unified_match": "generator",
}
"""Recipe, and the folder in its run that says it is finished."""
LATENT_SPACE, GENERATOR = "latent_space=runs/nano/decoder_bundled/autoencoder", "runs/nano/generator/generator"
OWN = {
    "generator": [LATENT_SPACE],
    "generator_unified": [LATENT_SPACE, f"init_generator={GENERATOR}"],
    "unified": [LATENT_SPACE],
    "unified_match": [LATENT_SPACE],
}
"""What a recipe would take from the package, and is made here."""


def main() -> None:
    arguments = parse()
    for name in ("emoji", "openclipart", "photos"):  # photographs are held out only: the bundled decoder sees none
        if not (ROOT / f"data/{name}/manifest.json").is_file():
            raekit("prepare", "data", name, "--out", f"data/{name}", "--size", "128")
    if not (ROOT / "data/scenes/manifest.json").is_file():
        settings = ("path=data/emoji", "num_train=16000", "num_test=1000")
        raekit("prepare", "data", "scenes", "--out", "data/scenes", "--size", "64", *sets(settings))
    timer = threading.Timer(arguments.seconds, signal.raise_signal, [signal.SIGTERM]) if arguments.seconds else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    for stage, artefact in STAGES.items():
        run = ROOT / "runs/nano" / stage
        if not (run / artefact).is_dir() and not train(stage, run):
            sys.exit(f"stopped in stage {stage}; the same command goes on from its last checkpoint")
    if arguments.bundle:
        subprocess.run([sys.executable, ROOT / "scripts/bundle_nano.py"], cwd=ROOT, check=True)


def train(stage: str, run: Path) -> bool:
    """Run one stage to its end; False when it was stopped early."""
    from raekit.training.loop import Trainer
    from raekit.training.recipe import load_recipe

    is_resumed = any((run / "checkpoints").glob("step_*"))
    recipe = load_recipe(f"recipes/nano/{stage}.yaml", OWN.get(stage, []))
    return Trainer(recipe, is_resumed).train() is not None


def sets(settings: tuple[str, ...]) -> list[str]:
    """Settings as options of the command line."""
    return [word for setting in settings for word in ("--set", setting)]


def raekit(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "raekit", *words], cwd=ROOT, check=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="store_true", help="replace src/raekit/models/nano by the result")
    parser.add_argument("--seconds", type=float, default=0, help="stop with a checkpoint after this long; 0 = never")
    return parser.parse_args()


if __name__ == "__main__":
    main()
