"""The text conditioner against what a language model says by hand, on a tiny random model and a tiny encoder."""

from __future__ import annotations

from typing import Any

import torch

from raekit.conditioning.text import TextConditioner
from tiny_language_model import HIDDEN, build_encoder, build_model, build_tokenizer

PROMPTS = ["a red apple", "sun", "a green tree on a hill"]
Z = 20


def build(model: Any = None, **settings: object) -> TextConditioner:
    torch.manual_seed(0)
    config = TextConditioner.Config(precision="fp32", width=Z, language_model="tiny", **settings)
    return TextConditioner(config, language_model=(model or build_model(), build_tokenizer()))


def test_context_is_the_mapped_normalised_states_of_the_words() -> None:
    conditioner = build()
    ids = torch.tensor([build_tokenizer()("sun")["input_ids"]])
    states = build_model().model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(conditioner.features(["sun"])["features"], states, rtol=0, atol=1e-6)
    unit = states / (states.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    expected = unit @ conditioner.connector.weight.T + conditioner.connector.bias
    cond = conditioner(["sun"])
    torch.testing.assert_close(cond.context, expected)
    assert cond.mask.tolist() == [[True] * 3] and cond.vector is None and cond.tokens is None


def test_a_prompt_does_not_feel_the_padding_of_its_batch() -> None:
    for model in (build_model(), build_encoder()):
        conditioner = build(model)
        together = conditioner(PROMPTS)
        assert together.context.shape == (3, len(PROMPTS[2]), Z)
        assert together.mask.sum(1).tolist() == [len(prompt) for prompt in PROMPTS]
        for row, prompt in enumerate(PROMPTS):
            alone = conditioner([prompt]).context[0]
            torch.testing.assert_close(together.context[row, : len(prompt)], alone, rtol=0, atol=1e-5)


def test_an_encoder_reads_in_both_directions_and_a_causal_model_in_one() -> None:
    for model, is_causal in ((build_model(), True), (build_encoder(), False)):
        conditioner = build(model)
        short, long = (conditioner([prompt]).context[0, :3] for prompt in ("sun", "sunset"))
        assert torch.allclose(short, long, atol=1e-4) == is_causal


def test_the_pooled_vector_is_of_the_mean_word() -> None:
    conditioner = build(has_pooled_vector=True)
    features = conditioner.features(PROMPTS)
    vector = conditioner.connect(features).vector
    for row, prompt in enumerate(PROMPTS):
        mean = conditioner.norm(features["features"][row, : len(prompt)]).mean(0)
        torch.testing.assert_close(vector[row], conditioner.pooled(mean))
    assert torch.equal(conditioner.null(2).vector, torch.zeros(2, Z))


def test_null_is_one_learned_word() -> None:
    null = build().null(2)
    assert null.context.shape == (2, 1, Z) and null.mask.all() and null.vector is None
    assert torch.equal(null.context[0], null.context[1]) and null.context.any()


def test_a_frozen_model_is_neither_registered_nor_saved() -> None:
    names = {"norm.weight", "connector.weight", "connector.bias", "null_token", "fingerprint"}
    assert set(build().state_dict()) == names
    assert build().is_cacheable and not build().features(PROMPTS)["features"].requires_grad


def test_rows_are_padded_to_the_limit_with_zeros_and_cut_back() -> None:
    conditioner = build(max_prompt_tokens=30)
    packed = conditioner.pack(conditioner.features(PROMPTS[:2]))
    assert packed["features"].shape == (2, 30, HIDDEN) and packed["mask"].shape == (2, 30)
    assert not packed["features"][~packed["mask"]].any()
    assert conditioner.unpack(packed)["mask"].shape == (2, len(PROMPTS[0]))


def test_the_start_of_the_connector_is_computed_from_words_alone() -> None:
    conditioner = build()
    inputs = conditioner.connector_inputs(conditioner.pack(conditioner.features(PROMPTS)))
    assert inputs.shape == (sum(len(prompt) for prompt in PROMPTS), 1, HIDDEN)
    torch.testing.assert_close(inputs.square().mean(-1), torch.ones(len(inputs), 1), rtol=1e-3, atol=0)


def test_width_is_the_language_models_own_unless_given() -> None:
    config = TextConditioner.Config(language_model="tiny")
    assert TextConditioner(config, language_model=(build_model(), build_tokenizer())).width == HIDDEN
