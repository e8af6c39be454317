"""Conversation files as people have them, whole and broken: what is read, what is left out, and how that is said."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raekit.data.conversations.files import ConversationShards, Llava
from raekit.data.sample import BadSample
from raekit.data.tar import TarWriter
from raekit.errors import UserError

CHANCE = np.random.default_rng(0)


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def said(*texts: str) -> list[dict[str, str]]:
    """Turns, the human's first."""
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


GOOD: list[dict[str, Any]] = [
    {"image": "1.png", "conversations": said("<image>\nwhat?", "one"), "id": 7},
    {"image": ["1.png", "2.png"], "conversations": said("<image> or <image>?", "the first")},
    {"image": "", "conversations": said("hello", "hello")},
    {"conversations": said("how much is 1 + 1?", "2", "and 2 + 2?", "4")},
    {"image": "2.png", "conversations": said("draw two", "<image>")},
    {"image": "2.png", "conversations": said("what?", "two")},
]
BROKEN = [
    '{"image": "1.png", "conversations": [{"from": "human", "value": "cut short',
    "[1, 2]",
    json.dumps({"image": "1.png"}),
    json.dumps({"image": "1.png", "conversations": said("<image> <image>", "a")}),
    json.dumps({"image": "http://x.org/1.png", "conversations": said("<image>", "a")}),
    json.dumps({"conversations": [{"from": "robot", "value": "x"}]}),
]


def jsonl(folder: Path, *lines: str) -> Path:
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(png(number))
    path = folder / "talk.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_lines_of_all_kinds(tmp_path: Path) -> None:
    source = Llava(Llava.Config(path=jsonl(tmp_path, *map(json.dumps, GOOD))))
    talks = [source.conversation(index, CHANCE) for index in range(len(source))]
    assert [[int(image[0, 0, 0]) for image in talk.images] for talk in talks] == [[1], [1, 2], [], [], [2], [2]]
    assert talks[0].turns == (("user", "<image>\nwhat?"), ("assistant", "one"))
    assert len(talks[3].turns) == 4
    assert talks[5].turns[0].text == "<image>\nwhat?", "a picture that nobody mentions comes first"
    assert len({talk.key for talk in talks}) == 6


def test_broken_lines_are_counted_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [*BROKEN[:2], json.dumps(GOOD[0]), "", *BROKEN[2:], json.dumps(GOOD[2])]
    with caplog.at_level(logging.WARNING):
        source = Llava(Llava.Config(path=jsonl(tmp_path, *lines)))
    assert len(source) == 2 and len(source.left_out) == 6
    assert [int(source.conversation(index, CHANCE).key) for index in (0, 1)] == [3, 9]
    (message,) = caplog.messages
    assert "6 lines left out: line 1: is not JSON" in message and "line 2: holds a list" in message
    assert message.endswith(", ...")
    assert (
        "stands 2 times, beside 1 pictures" in source.left_out["000000006"]
        and "download it first" in source.left_out["000000007"]
    )


@pytest.mark.parametrize(("lines", "message"), [([], "it is empty"), (BROKEN[:1], "1 lines left out: line 1: is not")])
def test_files_without_a_conversation(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"holds no conversation; {message}"):
        Llava(Llava.Config(path=jsonl(tmp_path, *lines)))
    with pytest.raises(UserError, match="no such file"):
        Llava(Llava.Config(path=tmp_path / "other.jsonl"))


def test_a_picture_that_is_missing_or_broken_is_met_when_it_is_read(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *(json.dumps({"image": name, "conversations": said("?", "a")}) for name in ("a.png", "b")))
    (tmp_path / "b").write_bytes(b"no picture")
    source = Llava(Llava.Config(path=path))
    for index, message in ((0, r"a.png \(.*talk.jsonl, line 1\): cannot be read"), (1, "b: ")):
        with pytest.raises(BadSample, match=message):
            source.conversation(index, CHANCE)


def shard(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    with TarWriter(path) as tar:
        for key, members in samples.items():
            tar.add(key, members)
    return path


def beside(*texts: str, **more: Any) -> bytes:
    return json.dumps({"conversations": said(*texts), **more}).encode()


def test_tars(tmp_path: Path) -> None:
    samples = {
        "a": {".png": png(1), ".json": beside("<image>\nwhat?", "one")},
        "b": {".10.png": png(3), ".2.png": png(2), ".json": beside("<image> <image>", "two, three")},
        "c": {".json": beside("hello", "hello")},
        "d": {".json": beside("draw", "<image>", image_filename="pictures/e.png")},
        "pictures/e": {".png": png(5)},
        "f": {".json": beside("draw", "<image>", image_filename="gone.png")},
        "g": {".json": b"{"},
        "h": {".txt": b"nothing"},
    }
    source = ConversationShards(ConversationShards.Config(path=shard(tmp_path / "t.tar", samples)))
    assert len(source) == 6 and source.left_out == {"t/h": "t.tar:h has no .json"}
    talks = [source.conversation(index, CHANCE) for index in range(4)]
    assert [[int(image[0, 0, 0]) for image in talk.images] for talk in talks] == [[1], [2, 3], [], [5]]
    assert [talk.key for talk in talks] == ["t/a", "t/b", "t/c", "t/d"]
    with pytest.raises(BadSample, match=r"t.tar:f: its picture 'gone.png' is not in the tar"):
        source.conversation(4, CHANCE)
    with pytest.raises(BadSample, match="t.tar:g.json: is not JSON"):
        source.conversation(5, CHANCE)


def test_folders_of_tars(tmp_path: Path) -> None:
    for name in ("1.tar", "0.tar"):
        shard(tmp_path / name, {"a": {".json": beside("hi", name)}})
    source = ConversationShards(ConversationShards.Config(path=tmp_path))
    assert [source.conversation(index, CHANCE).turns[1].text for index in (0, 1)] == ["0.tar", "1.tar"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no .tar files"):
        ConversationShards(ConversationShards.Config(path=tmp_path / "empty"))
