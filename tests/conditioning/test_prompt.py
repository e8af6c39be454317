"""What prompts go through on their way to any language model: template, limit, padding; and the model's identity."""

from __future__ import annotations

import logging

import pytest
import torch
from pydantic import ValidationError

from raekit.conditioning.prompt import MAX_WARNINGS, TEMPLATES, PromptConditioner, causal_mask, padded
from raekit.conditioning.query import QueryConditioner
from raekit.conditioning.text import TextConditioner
from raekit.errors import UserError
from tiny_language_model import build_encoder, build_model, build_tokenizer

KINDS = [QueryConditioner, TextConditioner]


@pytest.fixture(params=KINDS, ids=[kind.__name__ for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> type[PromptConditioner]:
    return request.param


def build(kind: type[PromptConditioner], seed: int = 0, **settings: object) -> PromptConditioner:
    torch.manual_seed(0)
    config = kind.Config(precision="fp32", width=8, language_model="tiny", **settings)
    return kind(config, num_tokens=4, language_model=(build_model(seed), build_tokenizer()))


def read(conditioner: PromptConditioner, prompt: str) -> list[int]:
    """The token ids that a prompt becomes."""
    (row,) = conditioner._rows([prompt])
    return row


def test_the_published_template_byte_for_byte() -> None:
    assert TEMPLATES["chatml"] == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_template_is_text_around_the_prompt(kind: type[PromptConditioner]) -> None:
    prompt = "braces {x} stay"
    plain, framed = build(kind), build(kind, template="draw {prompt}!")
    torch.testing.assert_close(framed.features([prompt]), plain.features([f"draw {prompt}!"]))
    with pytest.raises(ValidationError, match="chatml, plain"):
        kind.Config(template="draw it")


def test_adapters_learn_beside_a_frozen_model_and_are_part_of_the_file(kind: type[PromptConditioner]) -> None:
    adapted, plain = build(kind, lora={"rank": 2}), build(kind)
    names = {name for name in adapted.state_dict() if name.startswith("adapters.")}
    assert len(names) == 2 * 2 * 7 and adapted.state_dict().keys() - names == plain.state_dict().keys()
    assert not adapted.is_cacheable and not any(p.requires_grad for p in adapted.reader.parameters())
    before, after = adapted.features(["sun"])["features"], plain.features(["sun"])["features"]
    assert torch.equal(before, after), "they say nothing at first"
    before.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for n, p in adapted.named_parameters() if n.endswith("up.weight"))
    with torch.no_grad():
        for parameter in adapted.adapters.parameters():
            parameter.normal_(std=0.3)
    changed = adapted.features(["sun"])["features"]
    assert not torch.allclose(changed, after, atol=1e-2)
    merged = build(kind, is_llm_trained=True)
    merged.absorb(adapted.config.lora, adapted.state_dict())
    torch.testing.assert_close(merged.features(["sun"])["features"], changed, rtol=1e-4, atol=1e-4)


def test_a_text_encoder_can_be_adapted_by_the_names_of_its_own_maps() -> None:
    encoder = build_encoder(), build_tokenizer()
    config = TextConditioner.Config.model_validate({"language_model": "t5", "precision": "fp32", "lora": {"rank": 2}})
    with pytest.raises(UserError, match="called q_proj, .*; those in its blocks are k, o, q, v, wi, wo"):
        TextConditioner(config, language_model=encoder)
    lora = config.lora.model_copy(update={"targets": ("q", "v"), "num_blocks": 1})
    conditioner = TextConditioner(config.model_copy(update={"lora": lora}), language_model=encoder)
    assert len(conditioner.adapters) == 2
    conditioner.features(["sun"])["features"].sum().backward()
    assert all(a.up.weight.grad.abs().max() > 0 for a in conditioner.adapters.values())


def test_a_trained_language_model_needs_no_adapters(kind: type[PromptConditioner]) -> None:
    with pytest.raises(ValidationError, match="the language model itself is trained; leave lora out"):
        build(kind, lora={}, is_llm_trained=True)


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused(kind: type[PromptConditioner], prompt: str) -> None:
    with pytest.raises(UserError, match="prompt: it is empty"):
        build(kind)(["sun", prompt])


def test_a_long_prompt_loses_its_end_and_says_how_much(
    kind: type[PromptConditioner], caplog: pytest.LogCaptureFixture
) -> None:
    conditioner = build(kind, max_prompt_tokens=11)
    assert len(read(conditioner, "a red apple")) == 11 and not caplog.records
    assert read(conditioner, "a red apple pie") == build_tokenizer()("a red apple")["input_ids"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "'a red apple pie'... has 15 tokens and this model reads 11" in record.message
    assert record.message.endswith("the last 4 were left out")
    torch.testing.assert_close(conditioner.features(["a red apple pie"]), conditioner.features(["a red apple"]))


def test_the_template_stays_whole_around_a_prompt_that_is_cut(kind: type[PromptConditioner]) -> None:
    conditioner = build(kind, template="<a>{prompt}</a>", max_prompt_tokens=12)
    assert build_tokenizer().decode(read(conditioner, "a red apple")) == "<a>a red</a>"


def test_a_template_longer_than_the_limit_is_an_error(kind: type[PromptConditioner]) -> None:
    with pytest.raises(UserError, match=r"max_prompt_tokens: 5 leaves no room .* alone has 7 tokens"):
        build(kind, template="<a>{prompt}</a>", max_prompt_tokens=5)(["sun"])


def test_warnings_have_an_end(kind: type[PromptConditioner], caplog: pytest.LogCaptureFixture) -> None:
    conditioner = build(kind, max_prompt_tokens=3)
    for index in range(MAX_WARNINGS + 5):
        read(conditioner, f"prompt {index}")
    assert len(caplog.records) == MAX_WARNINGS
    assert "cut without a warning" in caplog.records[-1].message


def test_cache_key_names_all_that_features_depend_on(kind: type[PromptConditioner]) -> None:
    key = build(kind).cache_key()
    assert key == build(kind).cache_key() == build(kind, dropout=0.5).cache_key() and len(key) == 16
    others = [build(kind, template="a {prompt}"), build(kind, max_prompt_tokens=9), build(kind, seed=1)]
    assert len({key, *(other.cache_key() for other in others)}) == 4


def test_weights_of_another_language_model_are_refused(kind: type[PromptConditioner]) -> None:
    trained = build(kind)
    trained.features(["sun"])
    other = build(kind, seed=1)
    other.load_state_dict(trained.state_dict())
    with pytest.raises(UserError, match=r"'tiny' has weights \w{16}, this model was trained with \w{16}"):
        other.features(["sun"])


def test_a_trained_model_is_registered_and_gets_gradients(kind: type[PromptConditioner]) -> None:
    conditioner = build(kind, is_llm_trained=True)
    assert not conditioner.is_cacheable
    cond = conditioner(["sun"])
    (cond.tokens if cond.context is None else cond.context).sum().backward()
    weight = dict(conditioner.named_parameters())["language_model.layers.0.self_attn.q_proj.weight"]
    assert weight.grad.abs().max() > 0


def test_stored_rows_give_the_condition_back(kind: type[PromptConditioner]) -> None:
    conditioner, prompts = build(kind, max_prompt_tokens=20), ["a red apple", "sun"]
    rows = [conditioner.pack(conditioner.features([prompt])) for prompt in prompts]
    stored = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    cond, fresh = conditioner.connect(conditioner.unpack(stored)), conditioner(prompts)
    names = ("tokens",) if fresh.context is None else ("context", "mask")
    for name in names:
        value, expected = getattr(cond, name), getattr(fresh, name)
        assert value.shape == expected.shape
        where = fresh.mask if name == "context" else slice(None)
        torch.testing.assert_close(value[where], expected[where], rtol=0, atol=1e-5)


def test_the_mask_is_the_one_that_transformers_makes() -> None:
    model = build_model().get_decoder()
    ids, mask = padded([[5, 6, 7, 8, 9], [10, 11]], "left", torch.device("cpu"))
    made = causal_mask(model, mask)
    assert made.shape == (2, 1, 5, 5) and made.dtype == torch.bool
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ours, theirs = (
        model(input_ids=ids, attention_mask=given, position_ids=positions, use_cache=False).last_hidden_state
        for given in (made, mask)
    )
    assert torch.equal(ours[mask.bool()], theirs[mask.bool()])
    model.config.sliding_window = 3
    assert causal_mask(model, mask) is mask


def test_labels_and_bare_strings_are_refused(kind: type[PromptConditioner]) -> None:
    with pytest.raises(UserError, match="text prompts, not class labels"):
        build(kind)(torch.tensor([1]))
    with pytest.raises(TypeError, match="one string"):
        build(kind)("sun")


@pytest.mark.parametrize(("side", "ids"), [("left", [[1, 2], [0, 3]]), ("right", [[1, 2], [3, 0]])])
def test_padding(side: str, ids: list[list[int]]) -> None:
    got, mask = padded([[1, 2], [3]], side, torch.device("cpu"))
    assert got.tolist() == ids and mask.tolist() == [[int(i > 0) for i in row] for row in ids]
