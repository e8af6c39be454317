"""A model and what it is asked: the same for every study of scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_generator
import tiny_sprites
from raekit.data.scene_plan import TASKS
from raekit.errors import UserError
from raekit.studies import STUDIES
from raekit.studies.scene_study import SceneStudyConfig, held_out, tasks_of, text_generator


def test_prompts_and_drawings_are_made_for_the_model(tmp_path: Path) -> None:
    model, shapes = tiny_generator.saved(tmp_path), tiny_sprites.shard(tmp_path / "shapes.tar")
    config = SceneStudyConfig(name="any", data=shapes, model=str(model), num_per_task=1, seed=3, device="cpu")
    generator = text_generator(config)
    scenes, prompts, origin = held_out(config, generator)
    assert scenes.config.size >= generator.latent_space.output_size and scenes.config.path == shapes
    assert [prompt.task for prompt in prompts] == list(TASKS) and "training leaves out" in origin


def test_a_model_of_classes_is_refused(tmp_path: Path) -> None:
    tiny_generator.class_to_image(tmp_path).save(tmp_path / "generator", tmp_path / "autoencoder")
    config = SceneStudyConfig(name="any", model=str(tmp_path / "generator"), device="cpu")
    with pytest.raises(UserError, match="model: takes class labels, and scenes are asked for in words"):
        text_generator(config)


@pytest.mark.parametrize("name", ["tts", "guidance"])
def test_both_studies_begin_alike(name: str) -> None:
    own, shared = STUDIES[name].Config.model_fields, SceneStudyConfig.model_fields
    assert issubclass(STUDIES[name].Config, SceneStudyConfig)
    assert list(own)[: len(shared)] == list(shared)
    assert own["name"].default == name and all(own[field].description for field in own if field != "name")


def test_tasks_stand_in_their_own_order() -> None:
    assert tasks_of("colors, counting,colors") == ["counting", "colors"]
    assert tasks_of(SceneStudyConfig.model_fields["tasks"].default) == list(TASKS)
