"""The query conditioner against what a language model does by hand, on a tiny random model."""

from __future__ import annotations

import pytest
import torch

from raekit.conditioning.query import QueryConditioner
from raekit.errors import UserError
from tiny_language_model import HIDDEN, build_encoder, build_model, build_tokenizer, saved

PROMPTS = ["a red apple", "sun", "a green tree on a hill at night, with a very long description"]
N, Z = 6, 20


def build(seed: int = 0, **settings: object) -> QueryConditioner:
    torch.manual_seed(seed)
    config = QueryConditioner.Config(precision="fp32", width=Z, language_model="tiny", **settings)
    return QueryConditioner(config, num_tokens=N, language_model=(build_model(), build_tokenizer()))


def test_features_are_the_last_normalised_states_of_prompt_and_queries() -> None:
    conditioner, model = build(), build_model()
    ids = torch.tensor([build_tokenizer()("a red apple")["input_ids"]])
    words = model.get_input_embeddings()(ids)
    states = model.model(inputs_embeds=torch.cat([words, conditioner.queries[None]], 1)).last_hidden_state
    torch.testing.assert_close(conditioner.features(["a red apple"])["features"], states[:, -N:], rtol=0, atol=1e-6)
    # After the final RMSNorm (its weight is one here) every state has mean square one.
    torch.testing.assert_close(states.square().mean(-1), torch.ones(1, states.shape[1]), rtol=1e-3, atol=0)


def test_a_batch_of_mixed_lengths_equals_single_prompts() -> None:
    conditioner = build()
    together = conditioner.features(PROMPTS)["features"]
    alone = torch.cat([conditioner.features([prompt])["features"] for prompt in PROMPTS])
    assert together.shape == (3, N, HIDDEN)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_a_query_attends_to_those_before_it_and_to_none_after() -> None:
    conditioner = build()
    before = conditioner.features(["sun"])["features"].detach()
    with torch.no_grad():
        conditioner.queries[3] += 1
    change = (conditioner.features(["sun"])["features"] - before).abs().amax(dim=(0, 2))
    assert torch.all(change[:3] < 1e-6)
    assert torch.all(change[3:] > 1e-3)


def test_forward_is_connect_of_features() -> None:
    conditioner = build()
    cond = conditioner(PROMPTS)
    assert cond.tokens.shape == (3, N, Z)
    features = conditioner.features(PROMPTS)["features"]
    expected = features @ conditioner.connector.weight.T + conditioner.connector.bias
    torch.testing.assert_close(cond.tokens, expected)
    cached = conditioner.connect({"features": features.to(torch.bfloat16)})
    torch.testing.assert_close(cached.tokens, expected, rtol=0.02, atol=0.02)
    assert cached.tokens.dtype == torch.float32


def test_gradients_reach_the_queries_through_the_frozen_model() -> None:
    conditioner = build()
    conditioner(PROMPTS).tokens.square().sum().backward()
    assert conditioner.queries.grad.abs().amax(dim=1).min() > 0
    assert conditioner.connector.weight.grad is not None
    model = conditioner._loaded()[0]
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_frozen_queries_build_no_graph_and_can_be_cached() -> None:
    conditioner = build(are_queries_trained=False)
    assert conditioner.is_cacheable
    features = conditioner.features(PROMPTS)
    assert not features["features"].requires_grad
    assert conditioner.connect(features).tokens.requires_grad
    assert not build().is_cacheable


def test_a_frozen_model_is_neither_registered_nor_saved() -> None:
    names = {"queries", "null_token", "fingerprint", "connector.weight", "connector.bias"}
    assert set(build().state_dict()) == names
    model = build().train()._loaded()[0]
    assert not model.training


def test_a_trained_model_is_registered_and_gets_gradients() -> None:
    conditioner = build(is_llm_trained=True)
    assert not conditioner.is_cacheable
    conditioner(["sun"]).tokens.sum().backward()
    weight = dict(conditioner.named_parameters())["language_model.layers.0.self_attn.q_proj.weight"]
    assert weight.grad.abs().max() > 0
    assert "language_model.embed_tokens.weight" in conditioner.state_dict()


def test_number_of_queries_and_width_follow_from_what_is_there() -> None:
    config = QueryConditioner.Config(language_model="tiny")
    model = (build_model(), build_tokenizer())
    conditioner = QueryConditioner(config, num_tokens=9, language_model=model)
    assert conditioner.null(2).tokens.shape == (2, 9, HIDDEN)
    assert conditioner.width == HIDDEN
    fixed = QueryConditioner(config.model_copy(update={"num_queries": 4}), num_tokens=9, language_model=model)
    assert fixed.features(["sun"])["features"].shape[1] == 4


def test_null_is_one_learned_token_that_starts_at_zero() -> None:
    conditioner = build()
    assert torch.equal(conditioner.null(2).tokens, torch.zeros(2, N, Z))
    with torch.no_grad():
        conditioner.null_token += torch.arange(Z)
    assert torch.equal(conditioner.null(2).tokens, torch.arange(Z).float().expand(2, N, Z))


def test_cache_key_names_all_that_features_depend_on() -> None:
    key = build().cache_key()
    assert key == build().cache_key() and len(key) == 16
    assert key == build(dropout=0.5).cache_key()
    assert key != build(template="a {prompt}").cache_key()
    moved = build()
    with torch.no_grad():
        moved.queries[0, 0] += 1
    assert key != moved.cache_key()
    config = build().config
    torch.manual_seed(0)
    other = QueryConditioner(config, num_tokens=N, language_model=(build_model(1), build_tokenizer()))
    assert key != other.cache_key()


def test_weights_of_another_language_model_are_refused() -> None:
    trained = build()
    trained.features(["sun"])
    other = QueryConditioner(trained.config, num_tokens=N, language_model=(build_model(1), build_tokenizer()))
    other.load_state_dict(trained.state_dict())
    with pytest.raises(UserError, match=r"'tiny' has weights \w{16}, this model was trained with \w{16}"):
        other.features(["sun"])
    same = build(seed=5)
    same.load_state_dict(trained.state_dict())
    torch.testing.assert_close(same.features(["sun"]), trained.features(["sun"]))


def test_the_model_is_loaded_from_its_directory_on_first_use(tmp_path) -> None:
    config = QueryConditioner.Config(language_model=saved(tmp_path), precision="bf16", width=Z)
    conditioner = QueryConditioner(config, num_tokens=N)
    assert conditioner.connector.in_features == HIDDEN
    features = conditioner.features(["sun"])["features"]
    assert features.dtype == torch.bfloat16
    torch.manual_seed(0)
    exact = build()
    exact.load_state_dict(conditioner.state_dict())
    torch.testing.assert_close(features.float(), exact.features(["sun"])["features"], rtol=0.1, atol=0.1)


def test_bf16_autocast_keeps_gradients_and_values() -> None:
    conditioner = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cond = conditioner(PROMPTS)
    torch.testing.assert_close(cond.tokens.float(), conditioner(PROMPTS).tokens, rtol=0.1, atol=0.02)
    cond.tokens.float().sum().backward()
    assert torch.isfinite(conditioner.queries.grad).all()


@pytest.mark.parametrize("is_llm_trained", [True, False])
def test_a_trained_model_multiplies_as_its_generator_does(is_llm_trained: bool) -> None:
    conditioner = build(is_llm_trained=is_llm_trained)
    exact = conditioner(["a dog"]).tokens
    conditioner.precision = "bf16"
    with torch.no_grad():
        found = conditioner(["a dog"]).tokens
    assert exact is not None and found is not None and found.dtype == torch.float32
    # Held in fp32, a frozen one computes in it.
    assert torch.equal(found, exact) != is_llm_trained
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_labels_and_bare_strings_are_refused() -> None:
    with pytest.raises(UserError, match="text prompts, not class labels"):
        build()(torch.tensor([1]))
    with pytest.raises(TypeError, match="one string"):
        build()("sun")


def test_a_text_encoder_cannot_be_continued() -> None:
    config = QueryConditioner.Config(language_model="t5", precision="fp32", width=Z)
    with pytest.raises(UserError, match="'t5' is a text encoder, and queries continue a prompt; .* condition text"):
        QueryConditioner(config, num_tokens=N, language_model=(build_encoder(), build_tokenizer()))
