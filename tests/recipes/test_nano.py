"""Every recipe parses, fits its neighbours, and has the sizes that its model card states."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raekit import shipped
from raekit.autoencoder.decoder import ViTDecoder
from raekit.backbones import BACKBONES
from raekit.conditioning.text import TextConditioner
from raekit.training.encoder import EncoderStage, build_siglip
from raekit.training.recipe import load_recipe
from raekit.training.stage1 import Stage1
from raekit.training.stage2 import Stage2

RECIPES = Path(__file__).parents[2] / "recipes"
ALL = sorted(RECIPES.rglob("*.yaml"))
AT_HAND = {"stage2/finetune_lora.yaml": ["init_generator=models/nano/generator"]}
"""A recipe that takes a generator over whole is read with one that is there."""


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_recipe_parses_and_opens_with_its_command(path: Path) -> None:
    load_recipe(path, AT_HAND.get(str(path.relative_to(RECIPES)), ()))
    first = path.read_text().splitlines()[0]
    assert first.startswith("#") and f"raekit train {path.relative_to(RECIPES.parent)}" in first


def test_the_nano_family_fits_together_and_has_its_stated_size() -> None:
    names = ("encoder", "decoder_bundled", "generator")
    encoder, decoder, generator = (load_recipe(RECIPES / f"nano/{name}.yaml") for name in names)
    assert isinstance(encoder, EncoderStage.Config)
    assert isinstance(decoder, Stage1.Config) and isinstance(generator, Stage2.Config)
    width, grid = encoder.vision.width, encoder.image_size // encoder.patch_size
    assert encoder.decoder == decoder.autoencoder.decoder
    assert decoder.autoencoder.encoder.path == str(encoder.run / "encoder")
    assert generator.latent_space == shipped.find("models/nano/autoencoder")
    assert isinstance(generator.condition, TextConditioner.Config)
    assert generator.condition.width == generator.backbone.width, "words and latent tokens share the blocks"
    with torch.device("meta"):
        backbone = BACKBONES.build(
            generator.backbone, latent_shape=(width, grid, grid), cond_width=generator.condition.width
        )
        counts = {
            "encoder": sum(p.numel() for p in build_siglip(encoder).parameters()),
            "decoder": sum(p.numel() for p in ViTDecoder(decoder.autoencoder.decoder, width, grid).parameters()),
            "backbone": sum(p.numel() for p in backbone.parameters()),
        }
    assert counts == {"encoder": 2_626_434, "decoder": 2_600_448, "backbone": 7_662_968}
