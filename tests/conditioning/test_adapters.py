"""Adapters inside a unified model: silent at first, a low-rank addition after, part of the file, the rest frozen."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from raekit.conditioning.adapters import Adapter, Adapters, AdaptersConfig
from raekit.errors import UserError
from raekit.multimodal.chat import IMAGE_END, IMAGE_START, Turn
from tiny_language_model import build_model
from tiny_unified import conditioner

LORA = {"rank": 2, "alpha": 4.0}


def test_an_adapter_adds_a_low_rank_map() -> None:
    torch.manual_seed(0)
    adapter = Adapter(6, 5, AdaptersConfig(rank=2, alpha=4.0))
    x = torch.randn(3, 6)
    assert torch.equal(adapter(x), torch.zeros(3, 5))
    nn.init.normal_(adapter.up.weight)
    torch.testing.assert_close(adapter(x), 2 * x @ adapter.down.weight.T @ adapter.up.weight.T)
    assert adapter(x.bfloat16()).dtype == torch.bfloat16


def test_the_model_says_what_its_merged_weights_would_say() -> None:
    torch.manual_seed(0)
    adapted, merged = build_model().get_decoder(), build_model().get_decoder()
    adapters = Adapters(AdaptersConfig.model_validate({**LORA, "targets": ["q_proj", "down_proj"]}), adapted)
    assert sorted(adapters) == [f"layers_{n}_{name}" for n in (0, 1) for name in ("mlp_down_proj", "self_attn_q_proj")]
    embeds = torch.randn(1, 5, 32)
    torch.testing.assert_close(*(model(inputs_embeds=embeds).last_hidden_state for model in (adapted, merged)))
    with torch.no_grad():
        for number, layer in enumerate(merged.layers):
            for name, linear in (("self_attn_q_proj", layer.self_attn.q_proj), ("mlp_down_proj", layer.mlp.down_proj)):
                adapter = adapters[f"layers_{number}_{name}"]
                nn.init.normal_(adapter.up.weight)
                linear.weight += 2 * adapter.up.weight @ adapter.down.weight
    torch.testing.assert_close(
        *(model(inputs_embeds=embeds).last_hidden_state for model in (adapted, merged)), rtol=1e-4, atol=1e-4
    )


def test_only_the_last_blocks() -> None:
    adapters = Adapters(AdaptersConfig(rank=2, num_blocks=1), build_model().get_decoder())
    assert len(adapters) == 7 and all(name.startswith("layers_1_") for name in adapters)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_blocks": 3}, "num_blocks: 3, the language model has 2"), ({"targets": ["x"]}, "called x")],
)
def test_what_is_not_there_cannot_be_adapted(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Adapters(AdaptersConfig.model_validate(settings), build_model().get_decoder())


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_tokens_around_a_picture_are_learned_beside_a_frozen_table(is_tied: bool) -> None:
    model = conditioner(is_tied=is_tied, lora=LORA)
    plain = conditioner(is_tied=is_tied)
    assert model.marks is not None and model.marks.shape == (2 if is_tied else 4, 32)
    ids = torch.tensor([model.chat.conversation([Turn("user", "draw"), Turn("assistant", "<image>")]).ids])
    embeds = model.embed(ids)
    torch.testing.assert_close(embeds, plain.embed(ids))
    states = torch.randn(1, 4, 32)
    torch.testing.assert_close(model.logits(states), plain.logits(states))
    with torch.no_grad():
        model.marks.add_(torch.randn_like(model.marks))
    start, end = model.chat.tokenizer.convert_tokens_to_ids([IMAGE_START, IMAGE_END])
    moved = (model.embed(ids) != plain.embed(ids)).any(-1)[0]
    assert moved.tolist() == [id in (start, end) for id in ids[0].tolist()]
    changed = (model.logits(states) != plain.logits(states)).any(1)[0].nonzero()[:, 0].tolist()
    assert changed == sorted([start, end])
    # The prompt of a picture to be drawn ends with one of them.
    assert not torch.allclose(model.features(["draw"])["features"], plain.features(["draw"])["features"])


def test_they_are_all_that_a_file_holds_of_the_language_model() -> None:
    model = conditioner(lora=LORA)
    assert model.adapters is not None and not model.is_cacheable
    parts = {name.split(".")[0] for name in model.state_dict()}
    assert parts == {"adapters", "marks", "projector", "queries", "connector", "null_token", "fingerprint"}
    assert not any(parameter.requires_grad for parameter in model.reader.parameters())
    model.features(["sun"])["features"].sum().backward()
    reached = {name: parameter.grad for name, parameter in model.adapters.named_parameters()}
    # The first map is learned as soon as the second is no longer zero.
    assert all(grad.abs().max() > 0 for name, grad in reached.items() if name.endswith("up.weight"))


def test_a_trained_language_model_needs_none() -> None:
    with pytest.raises(ValidationError, match="the language model itself is trained"):
        conditioner(lora=LORA, is_llm_trained=True)
