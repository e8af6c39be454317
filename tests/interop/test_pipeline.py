"""The call of a pipeline: what it gives is what our own call gives, by the names and the randomness of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_generator
import tiny_pipeline
from raekit.errors import UserError
from raekit.generate import ClassToImage, TextToImage
from raekit.interop.convert import convert
from raekit.interop.format import ConvertConfig
from raekit.interop.pipeline import PipelineOutput, RAEDiTPipeline

TOLERANCE = 1e-4
"""One batch of two against two of one: sums in another order, over a few guided steps."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline.class_to_image(folder / "generator", tiny_pipeline.latent_space(folder))
    convert(folder / "generator", folder / "pipeline", ConvertConfig(format="diffusers_pipeline"))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> ClassToImage:
    return ClassToImage.load(folder / "generator", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> RAEDiTPipeline:
    return RAEDiTPipeline.from_pretrained(folder / "pipeline", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> RAEDiTPipeline:
    return RAEDiTPipeline(tiny_generator.text_to_image(tmp_path_factory.mktemp("text")))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_it_draws_what_the_model_draws(pipe: RAEDiTPipeline, model: ClassToImage) -> None:
    found = pipe(class_labels=[1, 3], generator=generators(7, 8), output_type="latent").images
    expected = torch.cat([model(1, seed=7, output="latent"), model(3, seed=8, output="latent")])
    assert torch.allclose(found, expected, atol=TOLERANCE)


def test_settings_have_their_effect(pipe: RAEDiTPipeline, model: ClassToImage) -> None:
    found = pipe([2], num_inference_steps=5, guidance_scale=4.0, generator=generators(1), output_type="latent").images
    expected = model(2, seed=1, steps=5, guidance_scale=4.0, output="latent")
    assert torch.allclose(found, expected, atol=TOLERANCE)
    partly = pipe([2], guidance_start=0.9, guidance_end=1.0, generator=generators(1), output_type="latent").images
    expected = model(2, seed=1, guidance_interval=(0.9, 1.0), output="latent")
    assert torch.allclose(partly, expected, atol=TOLERANCE)
    assert not torch.allclose(partly, found, atol=TOLERANCE)


def test_what_comes_out(pipe: RAEDiTPipeline) -> None:
    def draw(kind: Any) -> Any:
        output = pipe(class_labels=0, num_inference_steps=1, generator=generators(0), output_type=kind)
        assert isinstance(output, PipelineOutput)
        return output.images

    (picture,), array, tensor = draw("pil"), draw("np"), draw("pt")
    assert isinstance(picture, Image.Image) and picture.size == (12, 12)
    assert array.shape == (1, 12, 12, 3) and tensor.shape == (1, 3, 12, 12)
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy()) and 0 <= array.min() <= array.max() <= 1
    assert draw("latent").shape == (1, 64, 4, 4)
    (images,) = pipe(0, num_inference_steps=1, output_type="pt", return_dict=False)
    assert images.shape == (1, 3, 12, 12)


def test_one_generator_serves_the_whole_batch(pipe: RAEDiTPipeline) -> None:
    """And goes on where it stopped, as everywhere in torch."""
    one = torch.Generator().manual_seed(5)
    first = pipe([0, 1], num_inference_steps=1, generator=one, output_type="latent").images
    second = pipe([0, 1], num_inference_steps=1, generator=one, output_type="latent").images
    noise = torch.randn(2, 64, 4, 4, generator=torch.Generator().manual_seed(5))
    given = pipe([0, 1], num_inference_steps=1, latents=noise, output_type="latent").images
    assert torch.equal(first, given) and not torch.equal(first, second)


def test_without_a_generator_torch_decides(pipe: RAEDiTPipeline) -> None:
    torch.manual_seed(3)
    first = pipe(0, num_inference_steps=1, output_type="latent").images
    torch.manual_seed(3)
    assert torch.equal(first, pipe(0, num_inference_steps=1, output_type="latent").images)


def test_several_images_of_each(pipe: RAEDiTPipeline) -> None:
    noise = torch.randn(4, 64, 4, 4)
    found = pipe([0, 2], num_images_per_prompt=2, num_inference_steps=1, latents=noise, output_type="latent").images
    listed = pipe([0, 0, 2, 2], num_inference_steps=1, latents=noise, output_type="latent").images
    assert torch.equal(found, listed)


def test_labels_have_names(pipe: RAEDiTPipeline, prompted: RAEDiTPipeline) -> None:
    assert pipe.labels == {"cat": 0, "dog": 1, "red apple": 2, "boat": 3}
    assert pipe.get_label_ids("red apple") == [2] and pipe.get_label_ids(["dog", "cat"]) == [1, 0]
    with pytest.raises(UserError, match="'dgo' is not a class of this model"):
        pipe.get_label_ids("dgo")
    assert prompted.labels == {}
    with pytest.raises(UserError, match="takes text prompts; give it prompts"):
        prompted.get_label_ids("cat")


def test_prompts(prompted: RAEDiTPipeline) -> None:
    model = prompted.model
    assert isinstance(model, TextToImage)
    found = prompted(prompt="a cat", generator=generators(4), output_type="latent").images
    assert torch.allclose(found, model("a cat", seed=4, output="latent"), atol=TOLERANCE)
    prompts, negative = ["a cat", "a dog"], ["rain", "snow"]
    found = prompted(prompt=prompts, negative_prompt=negative, generator=generators(4, 4), output_type="latent").images
    assert torch.allclose(found, model(prompts, seed=4, negative=negative, output="latent"), atol=TOLERANCE)
    found = prompted(prompt=prompts, negative_prompt="rain", generator=generators(4, 4), output_type="latent").images
    assert torch.allclose(found, model(prompts, seed=4, negative="rain", output="latent"), atol=TOLERANCE)


def test_a_generator_of_ours_is_a_pipeline_too(folder: Path, model: ClassToImage) -> None:
    pipe = RAEDiTPipeline.from_pretrained(folder / "generator", device="cpu")
    assert pipe.model.checksum == model.checksum


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "class_labels: this model takes class labels; give class_labels and nothing else"),
        ({"prompt": "a cat"}, "takes class labels; give class_labels"),
        ({"class_labels": 0, "prompt": "a cat"}, "nothing else"),
        ({"class_labels": 9}, "label: 9 is not a class"),
        ({"class_labels": 0, "output_type": "jpeg"}, "output_type: 'jpeg' is not one of pil, np, pt, latent"),
        ({"class_labels": 0, "num_inference_steps": 0}, "steps"),
        ({"class_labels": 0, "guidance_scale": 0.5}, "guidance_scale"),
        ({"class_labels": 0, "guidance_start": 0.9, "guidance_end": 0.1}, "guidance_interval"),
        ({"class_labels": 0, "num_images_per_prompt": 0}, "num_images_per_prompt: 0; give 1 or more"),
        ({"class_labels": 0, "latents": torch.ones(1, 3)}, r"latents: got \[1, 3\], this call needs \[1, 64, 4, 4\]"),
        ({"class_labels": 0, "generator": generators(1, 2)}, "generator: 2 for 1 images"),
        ({"class_labels": 0, "seed": 7}, "seed: no option; it takes negative_prompt, "),
    ],
)
def test_bad_calls(pipe: RAEDiTPipeline, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pipe(**arguments)


def test_no_pipeline_there(prompted: RAEDiTPipeline, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no directory"):
        RAEDiTPipeline.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="negative_prompt: 2 for 3 images"):
        prompted(prompt=["a", "b", "c"], negative_prompt=["d", "e"], num_inference_steps=1)
