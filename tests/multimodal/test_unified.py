"""The unified model's losses against transformers' and the transport's own; what it answers; what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tiny_generator
from raekit.backbones.denoising import PURPOSE_EPS, PURPOSE_TIME
from raekit.conditioning.base import Cond
from raekit.errors import UserError
from raekit.multimodal.batch import Conversations, Counts, PictureDraws, Spoken, collate
from raekit.multimodal.chat import IGNORE, QUERY, Turn
from raekit.multimodal.unified import UnifiedModel, asked
from raekit.training.draws import Draws
from raekit.understand import Understander
from tiny_language_model import build_model
from tiny_unified import in_rae, in_vae

IMAGES = (torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
TALKS = (
    ([Turn("user", "draw the sun"), Turn("assistant", "<image>")], IMAGES[:1]),
    ([Turn("user", "<image>\nwhat?"), Turn("assistant", "A tree.")], IMAGES[1:2]),
    ([Turn("user", "<image>\nagain, twice"), Turn("assistant", "<image> and <image>")], IMAGES[1:4]),
    ([Turn("user", "say no"), Turn("assistant", "no")], None),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnifiedModel:
    return in_rae(tmp_path_factory.mktemp("unified"))


def batch_of(model: UnifiedModel, *numbers: int, length: int | None = None) -> Conversations:
    spoken = [Spoken(model.chat.conversation(TALKS[n][0]), TALKS[n][1], position=n) for n in numbers]
    return collate(spoken, model.chat.padding, length)


def draws_of(batch: Conversations) -> Draws:
    return Draws(0, batch.positions)


def test_the_first_term_is_the_language_models_own_loss(model: UnifiedModel) -> None:
    batch = batch_of(model, 1, 3)
    theirs = build_model()
    theirs.resize_token_embeddings(260, mean_resizing=False)
    weights = {f"model.{key}": value for key, value in model.conditioner.reader.state_dict().items()}
    assert model.conditioner.head is not None
    theirs.load_state_dict(weights | {"lm_head.weight": model.conditioner.head.weight})
    embeds = model.conditioner.embed(batch.ids, model.look(images=batch.shown))
    expected = theirs(inputs_embeds=embeds, labels=batch.labels).loss
    terms = model.loss(batch, draws_of(batch))
    torch.testing.assert_close(terms["ce"], expected, rtol=1e-5, atol=0)
    assert terms["diffusion"] == 0 and terms["loss"] == terms["ce"]


def test_the_second_term_is_flow_matching_under_the_states_at_the_queries(model: UnifiedModel) -> None:
    batch = batch_of(model, 0)
    terms = model.loss(batch, draws_of(batch), is_training=False)
    cond = model.condition(["draw the sun"])
    latent = model.latent_space.encode(IMAGES[:1] / 255)
    draws = draws_of(batch)
    t, eps = model.transport.sample_t(draws.uniform(PURPOSE_TIME)), draws.normal(PURPOSE_EPS, latent.shape[1:])
    expected = model.transport.loss(model.backbone, latent, cond, t, eps)
    torch.testing.assert_close(terms["diffusion"], expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(terms["loss"], terms["ce"] + 2 * terms["diffusion"])


def test_the_true_latent_is_only_a_target(model: UnifiedModel) -> None:
    seen = model.see(batch_of(model, 0))
    other = replace(seen, latents=torch.randn_like(seen.latents))
    first, second = (model.loss(one, draws_of(seen.batch)) for one in (seen, other))
    assert first["ce"] == second["ce"] and first["diffusion"] != second["diffusion"]


@pytest.mark.parametrize("times", [1, 3])
def test_the_terms_of_parts_add_up_with_the_counts_of_the_whole(
    model: UnifiedModel, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(model, "times_per_picture", times)
    whole = batch_of(model, 0, 1, 2, 3)
    assert whole.counts.pictures == 3
    terms = model.loss(whole, draws_of(whole))
    for cut in ([0], [1], [2], [3]), ([0, 1], [2, 3]):
        parts = [batch_of(model, *numbers) for numbers in cut]
        found = [model.loss(part, draws_of(part), whole.counts) for part in parts]
        for name, value in terms.items():
            torch.testing.assert_close(sum(part[name] for part in found), value, rtol=1e-5, atol=1e-6)


def test_filling_up_changes_nothing(model: UnifiedModel) -> None:
    short, long = batch_of(model, 0), batch_of(model, 0, length=300)
    for name, value in model.loss(short, draws_of(short)).items():
        torch.testing.assert_close(model.loss(long, draws_of(long))[name], value, rtol=1e-5, atol=0)


def test_conditions_are_dropped_in_training_alone(model: UnifiedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(model, 2)
    monkeypatch.setattr(model.conditioner, "dropout", 1.0)
    seen, draws = model.see(batch), draws_of(batch)
    own = PictureDraws(draws, batch.rows, batch.places)
    assert seen.latents is not None
    null = model.picture_losses(seen.latents, model.conditioner.null(2), own)["diffusion"].mean()
    torch.testing.assert_close(model.loss(seen, draws)["diffusion"], null)
    assert not torch.isclose(model.loss(seen, draws, is_training=False)["diffusion"], null)


def test_gradients_reach_every_part(model: UnifiedModel) -> None:
    batch = batch_of(model, 0, 1)
    for module in model.modules.values():
        module.zero_grad()
    model.loss(batch, draws_of(batch))["loss"].backward()
    for module in model.modules.values():
        without = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
        assert set(without) <= {"null_token"}, without
    assert model.conditioner.projector is not None
    assert model.conditioner.projector[0].weight.grad.abs().max() > 0
    model.conditioner.zero_grad()
    # The language model learns to draw: the second term alone reaches it, through the queries.
    model.loss(batch_of(model, 0), draws_of(batch), Counts(1e12, 1), is_training=False)["loss"].backward()
    assert model.conditioner.queries.grad.abs().min(dim=1).values.max() > 0
    assert model.conditioner.reader.layers[0].self_attn.q_proj.weight.grad.abs().max() > 1e-6


def test_in_bf16(model: UnifiedModel) -> None:
    batch = batch_of(model, 0, 1, 2)
    exact = model.loss(batch, draws_of(batch))
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(batch, draws_of(batch))
    for name, value in exact.items():
        assert terms[name].dtype == torch.float32
        torch.testing.assert_close(terms[name], value, rtol=0.05, atol=0)


def test_around_a_frozen_language_model_held_in_bf16(model: UnifiedModel, tmp_path: Path) -> None:
    frozen = in_rae(tmp_path, is_llm_trained=False)
    batch = batch_of(frozen, 0, 1)
    exact = frozen.loss(batch, draws_of(batch))
    torch.testing.assert_close(exact["ce"], model.loss(batch, draws_of(batch))["ce"], rtol=1e-5, atol=0)
    for part in (frozen.conditioner.reader, frozen.conditioner._frozen_head()):
        part.to(torch.bfloat16)
    terms = frozen.loss(batch, draws_of(batch))
    for name, value in exact.items():
        torch.testing.assert_close(terms[name], value, rtol=0.05, atol=0)
    terms["loss"].backward()
    trained = {name: value.grad for name, value in frozen.conditioner.named_parameters()}
    assert all(grad is not None for name, grad in trained.items() if name != "null_token")
    assert not any("language_model" in name or "head" in name for name in trained)


def test_an_early_head_adds_its_terms(tmp_path: Path) -> None:
    early = in_rae(tmp_path, backbone={"early_block": 1})
    batch = batch_of(early, 0)
    terms = early.loss(batch, draws_of(batch))
    torch.testing.assert_close(terms["diffusion"], terms["flow"] + 0.5 * terms["self"])
    torch.testing.assert_close(terms["loss"], terms["ce"] + 2 * terms["diffusion"])


def test_an_image_and_its_latent_are_seen_alike(model: UnifiedModel) -> None:
    images = IMAGES[:2] / 255
    seen = model.look(images=images)
    assert torch.equal(model.look(images=IMAGES[:2]), seen), "uint8 or float"
    torch.testing.assert_close(model.look(latents=model.latent_space.encode(images)), seen)


def test_an_answer_is_what_the_model_would_be_trained_on(model: UnifiedModel) -> None:
    # The layout of question and answer is that of training: the first answered token is the likeliest there.
    turns = [asked("what?"), Turn("assistant", "?")]
    layout = model.chat.conversation(turns)
    start = len(model.chat.prompt(turns[:1]))
    tokens = model.look(images=IMAGES[:1])
    states = model.conditioner.read(model.conditioner.embed(torch.tensor([layout.ids]), tokens))
    first = int(model.conditioner.logits(states[0, start - 1]).argmax())
    assert layout.labels[start] == layout.ids[start] != IGNORE
    assert Understander(model).answer(IMAGES[:1], "what?", max_tokens=1) == [model.chat.text([first]).strip()]


def test_in_a_vae_it_sees_through_a_tower(tmp_path: Path) -> None:
    vae = in_vae(tmp_path)
    batch = batch_of(vae, 0, 1)
    assert (batch.ids == QUERY).sum() == vae.backbone.num_tokens
    terms = vae.loss(batch, draws_of(batch))
    assert terms["ce"] > 0 and terms["diffusion"] > 0
    # The latent is a draw of the posterior with the conversation's own numbers.
    first, again = (vae.see(batch, draws_of(batch)).latents for _ in range(2))
    assert first is not None and torch.equal(first, again)
    assert not torch.equal(first, vae.see(batch).latents)
    assert vae.look(images=IMAGES[:1] / 255).shape[0] == 1
    with pytest.raises(UserError, match="latent: this model draws in the latent space of a VAE"):
        vae.look(latents=torch.zeros(1, *vae.latent_space.shape))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "images or latents, and one of them only"),
        ({"images": IMAGES[:1], "latents": torch.zeros(1, 32, 4, 4)}, "one of them only"),
        ({"latents": torch.zeros(1, 8, 4, 4)}, r"latent: \[8, 4, 4\] is none of this model's"),
    ],
)
def test_what_cannot_be_seen(model: UnifiedModel, given: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.look(**given)


@pytest.mark.parametrize(
    ("question", "message"), [(" ", "it is empty"), ("a <image>?", "<image> stands for a picture")]
)
def test_questions_that_cannot_be_asked(question: str, message: str) -> None:
    with pytest.raises(UserError, match=f"question: {message}"):
        asked(question)


def test_a_model_that_only_reads(tmp_path: Path) -> None:
    rae = tiny_generator.latent_space(tmp_path / "autoencoder")
    seeing = in_rae(tmp_path)
    blind = seeing.conditioner
    blind.config = blind.config.model_copy(update={"vision_shape": None})
    model = UnifiedModel(blind, seeing.backbone, seeing.transport, rae)
    with pytest.raises(UserError, match="reads words only"):
        model.look(images=IMAGES[:1])
    assert isinstance(model.condition(["sun"]), Cond)


def test_it_is_a_view_of_a_generator(model: UnifiedModel, tmp_path: Path) -> None:
    parts = {name: getattr(model, name) for name in ("conditioner", "backbone", "transport", "latent_space")}
    assert UnifiedModel.of(SimpleNamespace(**parts)).modules == model.modules
    with pytest.raises(UserError, match="its condition is 'query', which only reads text prompts"):
        UnifiedModel.of(tiny_generator.text_to_image(tmp_path))
