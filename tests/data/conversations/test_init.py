"""Every registered source of conversations keeps the contract: same index and chance, same conversation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny_data
import tiny_sprites
from raekit.data.conversations import CONVERSATIONS
from raekit.data.conversations.base import IMAGE, ConversationSource
from raekit.data.tar import TarWriter

TALK = {"conversations": [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "this"}]}


def settings(name: str, folder: Path) -> dict[str, object]:
    pictures = tiny_data.pictures(folder / "pictures")
    files = sorted(pictures.glob("*.png"))
    if name == "llava":
        lines = [json.dumps({"image": str(file), **TALK}) for file in files]
        (folder / "talk.jsonl").write_text("\n".join(lines))
        return {"path": folder / "talk.jsonl"}
    if name == "conversation_shards":
        with TarWriter(folder / "talk.tar") as tar:
            for file in files:
                tar.add(file.stem, {".png": file.read_bytes(), ".json": json.dumps(TALK).encode()})
        return {"path": folder / "talk.tar"}
    if name == "requests":
        return {"source": {"name": "folder", "path": str(pictures)}}
    return {"source": {"name": "shards", "path": str(tiny_sprites.shard(folder / "shapes.tar"))}}


@pytest.fixture(params=sorted(CONVERSATIONS))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ConversationSource:
    kind = CONVERSATIONS[request.param]
    built: ConversationSource = kind(kind.Config(**settings(request.param, tmp_path)))
    return built


def test_contract(source: ConversationSource) -> None:
    assert len(source) >= 8 and not source.is_endless
    assert sorted(source.order([1, 2])) == list(range(len(source)))
    talks = [source.conversation(index, np.random.default_rng(7)) for index in (0, 3, 0)]
    assert talks[0].turns == talks[2].turns and talks[0].key != talks[1].key
    for talk in talks:
        assert sum(turn.text.count(IMAGE) for turn in talk.turns) == len(talk.images) == 1
        assert talk.turns[0].role == "user" and talk.images[0].dtype == np.uint8
    assert np.array_equal(talks[0].images[0], talks[2].images[0])
