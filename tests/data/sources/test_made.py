from __future__ import annotations

import numpy as np

from raekit.data.rendered_text import RenderedText
from raekit.data.shards import Shards
from raekit.data.sources.made import MadeScenes, MadeText
from raekit.data.words import is_held_out
from raekit.files import sha256


def test_rendered_words_as_shards(tmp_path) -> None:
    settings = MadeText.Config(size=32, num_train=5, num_test=2, samples_per_shard=3, fonts="builtin")
    manifest = MadeText(settings).build(tmp_path)
    assert manifest.splits == {"train": 5, "test": 2}
    source = Shards(Shards.Config(path=tmp_path, split="train"))
    endless = RenderedText(RenderedText.Config(size=32, fonts="builtin"))
    for index in range(5):
        assert np.array_equal(source[index].image, endless[index].image)
        assert source[index].captions == endless[index].captions
    assert not source.is_mirrorable and not source.is_croppable
    test = Shards(Shards.Config(path=tmp_path, split="test"))
    assert all(is_held_out(word.lower()) for word in test[0].metadata["text"].split())


def test_composed_scenes_as_shards(tmp_path, sprite_shard) -> None:
    settings = MadeScenes.Config(path=sprite_shard, size=32, num_train=4, num_test=3, samples_per_shard=10)
    assert MadeScenes(settings).build(tmp_path).splits == {"train": 4, "test": 3}
    truth = Shards(Shards.Config(path=tmp_path, split="test")).metadata(0)
    assert {"tag", "include", "objects"} <= set(truth)


def test_two_processes_write_the_same_bytes_as_one(tmp_path) -> None:
    for workers in (1, 2):
        settings = MadeText.Config(size=32, num_train=12, num_test=0, fonts="builtin", workers=workers)
        MadeText(settings).build(tmp_path / str(workers))
    name = "train-000000.tar"
    assert sha256(tmp_path / "1" / name) == sha256(tmp_path / "2" / name)
