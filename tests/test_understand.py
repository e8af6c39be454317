"""Answers do not depend on their batch, scores are those of training, and what cannot be answered is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import tiny_generator
from raekit import latent_file
from raekit.errors import UserError
from raekit.image_grid import to_arrays
from raekit.latent_file import Latent
from raekit.multimodal.batch import Spoken, collate
from raekit.multimodal.chat import Chat, Turn
from raekit.multimodal.eye import eye_of
from raekit.multimodal.writing import write
from raekit.understand import Question, Understander
from tiny_unified import in_rae, in_vae

IMAGES = (torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
ASKED = [
    Question.of("what is this?", [IMAGES[0]]),
    Question.of("and these two, what are they, and which is the larger one?", [IMAGES[1], IMAGES[2]]),
    Question.of("say no"),
    Question.of("where?", [IMAGES[3]]),
    Question.of("between <image> and <image>?", [IMAGES[0], IMAGES[3]]),
]


@pytest.fixture(scope="module")
def understander(tmp_path_factory: pytest.TempPathFactory) -> Understander:
    return Understander(in_rae(tmp_path_factory.mktemp("unified")))


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_p": 0.9, "seed": 5}])
def test_an_answer_does_not_depend_on_its_batch(understander: Understander, options) -> None:
    together = understander.ask(ASKED, max_tokens=4, **options)
    assert len(set(together)) > 2
    assert understander.ask(ASKED, batch_size=2, max_tokens=4, **options) == together
    for place, question in enumerate(ASKED):
        own = {**options, "seed": options.get("seed", 0) + place}
        assert understander.ask([question], max_tokens=4, **own) == together[place : place + 1]


def test_drawn_answers_are_repeatable_and_differ_from_the_likeliest(understander: Understander) -> None:
    first, again = (understander.ask(ASKED, max_tokens=4, temperature=1.0, seed=3) for _ in range(2))
    assert first == again != understander.ask(ASKED, max_tokens=4)
    assert understander.ask(ASKED, max_tokens=4, temperature=1.0, seed=4) != first
    # A nucleus of one word is the likeliest one.
    nucleus = understander.ask(ASKED, max_tokens=4, temperature=1.0, top_p=1e-6)
    assert nucleus == understander.ask(ASKED, max_tokens=4)


def test_one_picture_in_every_form(understander: Understander, tmp_path: Path) -> None:
    picture = Image.fromarray(to_arrays(IMAGES[:1] / 255)[0])
    picture.save(tmp_path / "a.png")
    latent = understander.model.latent_space.encode(IMAGES[:1] / 255)[0]
    path = latent_file.save(tmp_path / "a.safetensors", latent, understander.model.latent_space.checksum)
    same = [picture, tmp_path / "a.png", str(tmp_path / "a.png"), IMAGES[0], Latent(latent), latent_file.load(path)]
    (answer,) = understander.answer(IMAGES[:1], "what?", max_tokens=4)
    assert understander.answer(same, "what?", max_tokens=4) == [answer] * len(same)
    for one in same:
        assert understander.answer(one, "what?", max_tokens=4) == [answer]


def test_pictures_and_latents_of_one_question_keep_their_order(understander: Understander) -> None:
    latents = [Latent(latent) for latent in understander.model.latent_space.encode(IMAGES / 255)]
    plain = understander.ask([Question.of("what?", [*IMAGES[:3]])], max_tokens=4)
    assert understander.ask([Question.of("what?", [IMAGES[0], latents[1], IMAGES[2]])], max_tokens=4) == plain
    assert understander.ask([Question.of("what?", [latents[0], IMAGES[1], latents[2]])], max_tokens=4) == plain
    swapped = [Question.of("what?", [latents[2], IMAGES[1], latents[0]])]
    assert understander.score(swapped, ["a"]) != understander.score([Question.of("what?", [*IMAGES[:3]])], ["a"])


def test_a_score_is_the_loss_that_is_trained(understander: Understander) -> None:
    model, answers = understander.model, ["a tree", "cat and dog", "no", "b", "there"]
    scores = understander.score(ASKED, answers)
    for question, answer, score in zip(ASKED, answers, scores, strict=True):
        layout = model.chat.conversation([*question.turns, Turn("assistant", answer)])
        images = torch.stack(question.pictures) if question.pictures else None
        batch = collate([Spoken(layout, images)], model.chat.padding)
        tokens = None if images is None else model.look(images=images)
        states = model.conditioner.read(model.conditioner.embed(batch.ids, tokens))
        start, length = len(model.chat.prompt(question.turns)), len(model.chat.words(answer)) + 1
        logits = model.conditioner.logits(states[0, start - 1 : start - 1 + length]).detach()
        loss = F.cross_entropy(logits, batch.labels[0, start : start + length], reduction="sum")
        assert score.num_tokens == length
        assert score.log_probability == pytest.approx(-float(loss), abs=1e-4)
    alone = understander.score(ASKED[1:2], answers[1:2])[0]
    assert alone.log_probability == pytest.approx(scores[1].log_probability, abs=1e-4)
    without_end = understander.score(ASKED, answers, is_ended=False)
    assert all(short.num_tokens == whole.num_tokens - 1 for short, whole in zip(without_end, scores, strict=True))
    assert all(short.log_probability > whole.log_probability for short, whole in zip(without_end, scores, strict=True))


def test_what_the_model_writes_is_its_likeliest_answer(understander: Understander, monkeypatch) -> None:
    model, (question, *_) = understander.model, ASKED
    tokens = model.look(images=torch.stack(question.pictures))
    (ids,) = write(model.conditioner, [model.chat.prompt(question.turns)], 3, tokens).ids
    # Random bytes are no text, so the ids are given back as they are.
    words = Chat.words
    monkeypatch.setattr(Chat, "words", lambda self, text: ids if text == "said" else words(self, text))
    assert understander.score([question], ["said"], is_ended=False)[0].is_likeliest
    assert not understander.score([question], ["zz"], is_ended=False)[0].is_likeliest


def test_in_a_vae_images_are_seen_and_latents_are_not(tmp_path: Path) -> None:
    vae = Understander(in_vae(tmp_path))
    assert len(vae.answer(IMAGES[:2], "what?", max_tokens=2)) == 2
    with pytest.raises(UserError, match="latent: this model draws in the latent space of a VAE"):
        vae.answer(Latent(torch.zeros(*vae.model.latent_space.shape), "another"), "what?")


def test_a_model_that_only_reads(understander: Understander, tmp_path: Path) -> None:
    seeing = in_rae(tmp_path)
    seeing.conditioner.config = seeing.conditioner.config.model_copy(update={"vision_shape": None})
    seeing.eye = eye_of(seeing.conditioner.config, seeing.latent_space)
    with pytest.raises(UserError, match="image: this model reads words only"):
        Understander(seeing).answer(IMAGES[:1], "what?")
    with pytest.raises(UserError, match="its condition is 'query', which only reads text prompts"):
        Understander.of(tiny_generator.text_to_image(tmp_path / "text"))
    with pytest.raises(UserError, match="its condition is 'label', which only reads class labels; questions need"):
        Understander.of(tiny_generator.class_to_image(tmp_path / "classes"))


@pytest.mark.parametrize(
    ("text", "pictures", "message"),
    [
        (" ", 1, "question: it is empty; ask something"),
        ("<image>", 1, "question: it is empty"),
        ("like <image> or <image>?", 1, "<image> stands in it 2 times, beside 1 pictures"),
        ("<image>?", 0, "<image> stands in it 1 times, beside 0 pictures"),
        ("what?", 9, "images: 9 in one question, at most 8; ask about fewer, or raise max_pictures"),
        ("why? " * 100, 1, "language model reads 512; ask more briefly"),
    ],
)
def test_questions_that_cannot_be_answered(understander: Understander, text: str, pictures: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        understander.ask([Question.of(text, [IMAGES[0]] * pictures)], max_tokens=4)


def test_pictures_that_cannot_be_used(understander: Understander, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"image: .*a\.png.*; give another picture"):
        understander.answer(tmp_path / "a.png", "what?")
    with pytest.raises(UserError, match=r"absent\.png: cannot be read"):
        understander.answer(tmp_path / "absent.png", "what?")
    stranger = Latent(torch.zeros(32, 4, 4), "f" * 64)
    with pytest.raises(UserError, match="latent lies in the latent space ffffffffffff, but the model's is"):
        understander.answer(stranger, "what?")
    with pytest.raises(UserError, match=r"latent: \[8, 4, 4\], but the model's latents are \[32, 4, 4\]"):
        understander.answer(Latent(torch.zeros(8, 4, 4)), "what?")


def test_room_for_the_answer_is_part_of_the_length(understander: Understander) -> None:
    base = len(understander.model.chat.prompt(Question.of("a", [IMAGES[0]]).turns))
    nearly_full = Question.of("a" * (512 - base - 1), [IMAGES[0]])
    assert len(understander.ask([nearly_full], max_tokens=2)) == 1
    with pytest.raises(UserError, match="question: 510 tokens with its 1 pictures, and up to 3 for the answer"):
        understander.ask([nearly_full], max_tokens=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: it.answer(IMAGES[:2], ["a?"]), "question: 1 for 2 pictures"),
        (lambda it: it.ask(ASKED, batch_size=0), "batch_size: 0 questions at once"),
        (lambda it: it.ask(ASKED, max_tokens=0), "answering: max_tokens"),
        (lambda it: it.ask(ASKED, temperature=-1), "answering: temperature"),
        (lambda it: it.ask(ASKED, top_p=0), "answering: top_p"),
        (lambda it: it.ask([replace(ASKED[0], turns=())]), "question: it is empty"),
        (lambda it: it.score(ASKED, ["a"]), "answers: 1 for 5 questions"),
        (lambda it: it.score(ASKED[:1], [""]), "answers: one is empty"),
    ],
)
def test_wrong_arguments(understander: Understander, call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(understander)


def test_it_is_loaded_from_a_generator(tmp_path: Path) -> None:
    generator = tiny_generator.unified(tmp_path)
    generator.save(tmp_path / "generator", tmp_path / "autoencoder")
    loaded = Understander.load(tmp_path / "generator", "cpu", precision="fp32")
    assert loaded.checksum == generator.checksum != ""
    expected = Understander.of(generator).answer(IMAGES[:1], "what?", max_tokens=5)
    assert loaded.answer(IMAGES[:1], "what?", max_tokens=5) == expected
    generator_of_prompts = tiny_generator.saved(tmp_path / "other")
    with pytest.raises(UserError, match="questions need a model trained with the condition 'unified'"):
        Understander.load(generator_of_prompts, "cpu")
