"""The SigLIP tower: no pooling head, loads from a whole SigLIP, and its two published readings agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch.nn import functional as F

import tiny_encoders
from raekit.encoders.siglip2 import CHECKPOINTS, SigLIP2


def test_readings_of_both_papers_are_one_tensor(tmp_path: Path) -> None:
    """RAE: last hidden state, affine part removed. Scale-RAE: last layer's output, then a LayerNorm without affine."""
    encoder = tiny_encoders.build("siglip2", tmp_path)
    oracle = transformers.SiglipVisionModel.from_pretrained(tmp_path).eval()
    image = torch.rand(2, 3, 32, 32)
    before_norm = []
    oracle.encoder.layers[-1].register_forward_hook(lambda _, inputs, output: before_norm.append(output))
    oracle.post_layernorm.weight.data.fill_(1)
    oracle.post_layernorm.bias.data.fill_(0)
    published = oracle(encoder.preprocess(image)).last_hidden_state
    torch.testing.assert_close(encoder(image), published)
    torch.testing.assert_close(encoder(image), F.layer_norm(before_norm[0], (32,), eps=1e-6))


def test_pooling_head_is_not_built(tmp_path: Path) -> None:
    encoder = tiny_encoders.build("siglip2", tmp_path)
    assert not any("head" in key for key in encoder.state_dict())


def test_loads_from_a_whole_siglip(tmp_path: Path) -> None:
    tower = tiny_encoders.siglip().config
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8}
    config = transformers.SiglipConfig(text_config=text, vision_config=tower.to_dict())
    whole = transformers.SiglipModel(config).eval()
    whole.save_pretrained(tmp_path)
    encoder = SigLIP2(SigLIP2.Config(path=str(tmp_path), norm="affine"))
    pixels = torch.randn(1, 3, 32, 32)
    expected = whole.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(encoder.normalise(encoder.hidden(pixels)), expected)


def test_published_checkpoints() -> None:
    assert SigLIP2.Config().hub_id == "google/siglip2-base-patch16-256"
    assert SigLIP2.Config(size="so400m").hub_id == "google/siglip2-so400m-patch14-224"
    assert SigLIP2.Config(size="so400m", resolution=512).hub_id == "google/siglip2-so400m-patch16-512"
    assert SigLIP2.Config(size="large", resolution=384).hub_id == "google/siglip2-large-patch16-384"
    assert SigLIP2.Config(size="siglip1_so400m").hub_id == "google/siglip-so400m-patch14-224"


@pytest.mark.parametrize(("size", "resolution"), [(size, r) for size in CHECKPOINTS for r in CHECKPOINTS[size]])
def test_a_checkpoint_is_named_after_its_resolution_which_its_patch_divides(size: str, resolution: int) -> None:
    patch, pixels = map(int, CHECKPOINTS[size][resolution].split("-patch")[1].split("-"))
    assert pixels == resolution and pixels % patch == 0


def test_unpublished_resolutions_are_refused_by_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="224 px of size large was never published, only 256, 384, 512"):
        SigLIP2.Config(size="large", resolution=224)
    with pytest.raises(ValidationError, match="never published, only 224"):
        SigLIP2.Config(size="siglip1_so400m", resolution=384)
    assert SigLIP2.Config(size="large", resolution=224, path=str(tmp_path)).path == str(tmp_path)
