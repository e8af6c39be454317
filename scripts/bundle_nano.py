"""Put the trained nano family into the package: encoder, autoencoder, generator and unified model, in bf16.

    python scripts/bundle_nano.py

In: runs/nano/{encoder,decoder_bundled,generator,unified_match}. Out: src/raekit/models/nano/{encoder,autoencoder,
generator,unified}. The encoder is copied as it is (its bytes are its identity); the others are stored in bf16. The
model card beside them, README.md, is written by hand.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from raekit.autoencoder.rae import RAE
from raekit.generate import load_generator

ROOT = Path(__file__).resolve().parents[1]
RUNS, NANO = ROOT / "runs/nano", ROOT / "src/raekit/models/nano"


def main() -> None:
    shutil.rmtree(NANO / "encoder", ignore_errors=True)
    shutil.copytree(RUNS / "encoder/encoder", NANO / "encoder")
    trained = RUNS / "decoder_bundled/autoencoder"
    latent_space, rae = RAE.load(trained), bundled_autoencoder(trained)
    rae.save(NANO / "autoencoder", dtype=torch.bfloat16)
    for name, run in (("generator", "generator"), ("unified", "unified_match")):
        generator = load_generator(RUNS / run / "generator", device="cpu", latent_space=latent_space)
        generator.latent_space = rae
        generator.save(NANO / name, NANO / "autoencoder", dtype=torch.bfloat16)
    megabytes = sum(path.stat().st_size for path in NANO.rglob("*") if path.is_file()) / 1e6
    print(f"wrote {NANO.relative_to(ROOT)}, {megabytes:.1f} MB in all")


def bundled_autoencoder(trained: Path) -> RAE:
    """The trained autoencoder, reading its encoder from inside the package."""
    rae = RAE.load(trained)
    encoder = rae.config.encoder.model_copy(update={"path": "models/nano/encoder"})
    config = rae.config.model_copy(update={"encoder": encoder})
    return RAE(config, decoder=rae.decoder, statistics=rae.statistics)


if __name__ == "__main__":
    main()
