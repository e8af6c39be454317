"""Layouts and labels, on conversations small enough to be written out by hand."""

from __future__ import annotations

import pytest

from raekit.errors import UserError
from raekit.multimodal.chat import CONTEXT, IGNORE, QUERY, SPECIAL_TOKENS, Chat, Turn, teach_special_tokens
from tiny_language_model import build_tokenizer

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
START, END, OPEN, CLOSE = range(256, 260)
"""Ids of the special tokens, after the 256 bytes."""
NEWLINE = 198


@pytest.fixture
def chat() -> Chat:
    return Chat(build_tokenizer(), num_queries=3, num_context=2)


def test_special_tokens_are_taught_once() -> None:
    tokenizer = build_tokenizer()
    teach_special_tokens(tokenizer)
    teach_special_tokens(tokenizer)
    assert len(tokenizer) == 260
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [START, END, OPEN, CLOSE]
    assert tokenizer("a<im_start>b", add_special_tokens=False)["input_ids"][1] == OPEN


def test_a_picture_to_be_drawn(chat: Chat) -> None:
    layout = chat.conversation([Turn("user", "sun"), Turn("assistant", "ok: <image>")])
    words = chat.words
    heard = [START, *words("user\nsun"), END, NEWLINE]
    spoken = [START, *words("assistant\nok: "), OPEN, QUERY, QUERY, QUERY, CLOSE, END, NEWLINE]
    assert layout.ids == words(SYSTEM) + heard + spoken
    assert layout.pictures == (QUERY,)
    heard_labels = [START, *[IGNORE] * 4, NEWLINE, *[IGNORE] * 3, END, NEWLINE]
    spoken_labels = [START, *words("assistant\nok: "), OPEN, *[IGNORE] * 3, CLOSE, END, NEWLINE]
    assert layout.labels[len(words(SYSTEM)) :] == heard_labels + spoken_labels


def test_a_picture_that_is_shown(chat: Chat) -> None:
    layout = chat.conversation([Turn("user", "<image>\nwhat?"), Turn("assistant", "sun")])
    words = chat.words
    heard = [START, *words("user\n"), OPEN, CONTEXT, CONTEXT, CLOSE, *words("\nwhat?"), END, NEWLINE]
    assert layout.ids == [*words(SYSTEM), *heard, START, *words("assistant\nsun"), END, NEWLINE]
    assert layout.pictures == (CONTEXT,)
    # Of what is heard, the tokens around the picture are not learned; newlines are, the one after the picture too.
    labels = layout.labels[len(words(SYSTEM)) :][: len(heard)]
    assert labels == [START, *[IGNORE] * 4, NEWLINE, *[IGNORE] * 4, NEWLINE, *[IGNORE] * 5, END, NEWLINE]


def test_the_system_is_heard_too(chat: Chat) -> None:
    labels = chat.conversation([Turn("user", "sun")]).labels[: len(chat.words(SYSTEM))]
    assert [label for label in labels if label != IGNORE] == [START, NEWLINE, END, NEWLINE]
    own = chat.conversation([Turn("system", "Be brief."), Turn("user", "sun")])
    assert chat.text(own.ids) == "system\nBe brief.\nuser\nsun\n"


def test_a_prompt_is_the_published_text(chat: Chat) -> None:
    published = f"{SYSTEM}<|im_start|>user\na red apple<|im_end|>\n<|im_start|>assistant\n"
    assert chat.prompt([Turn("user", "a red apple")]) == chat.words(published)


def test_several_pictures_keep_their_order(chat: Chat) -> None:
    turns = [Turn("user", "<image><image>and?"), Turn("assistant", "<image>"), Turn("user", "<image>")]
    layout = chat.conversation(turns)
    assert layout.pictures == (CONTEXT, CONTEXT, QUERY, CONTEXT)
    assert (layout.ids.count(CONTEXT), layout.ids.count(QUERY)) == (6, 3)
    assert len(layout) == len(layout.ids) == len(layout.labels)


def test_a_newline_of_several_tokens_is_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Chat.words
    monkeypatch.setattr(Chat, "words", lambda self, text: words(self, text.replace("\n", "\r\n")))
    chat = Chat(build_tokenizer(), 3, 2)
    assert chat.newline is None
    assert NEWLINE not in chat.conversation([Turn("user", "sun")]).labels


def test_padding_is_the_tokenizers_own_or_the_end_of_a_turn(chat: Chat) -> None:
    assert chat.padding == END
    tokenizer = build_tokenizer()
    tokenizer.pad_token = "a"
    assert Chat(tokenizer, 3, 2).padding == chat.words("a")[0]


def test_a_blind_model_is_not_shown_pictures() -> None:
    chat = Chat(build_tokenizer(), num_queries=3, num_context=0)
    assert chat.conversation([Turn("assistant", "<image>")]).pictures == (QUERY,)
    with pytest.raises(UserError, match="image: this model reads words only"):
        chat.conversation([Turn("user", "<image>")])


def test_the_system_may_say_something_else_or_nothing() -> None:
    silent = Chat(build_tokenizer(), num_queries=3, num_context=2, system=None)
    assert silent.conversation([Turn("user", "hi")]).ids[0] == START
    assert silent.text(silent.prompt([Turn("user", "hi")])).startswith("user\nhi")
    told = Chat(build_tokenizer(), 3, 2, system="Be brief.").conversation([Turn("user", "hi")])
    assert "system\nBe brief." in silent.text([id for id in told.ids if id >= 0])
