"""The unified model's language model against the plain one of transformers, and against the query conditioner."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F

import tiny_generator
import tiny_language_model
from raekit.conditioning.query import QueryConditioner
from raekit.errors import UserError
from raekit.generate import load_generator
from raekit.multimodal.chat import CONTEXT, QUERY, Turn
from raekit.multimodal.conditioner import UnifiedConditioner, own_head, places_in, teach
from tiny_unified import conditioner, qwen2

PROMPTS = ["a red apple", "sun"]


def test_new_tokens_start_as_the_mean_of_all_others() -> None:
    for model in (tiny_language_model.build_model(), qwen2()):
        tables = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
        means = [table.detach().mean(0) for table in tables]
        before = tables[0].detach().clone()
        teach(model, tokenizer := tiny_language_model.build_tokenizer())
        for table, mean in zip((model.get_input_embeddings(), model.get_output_embeddings()), means, strict=True):
            assert table.weight.shape == (260, 32)
            torch.testing.assert_close(table.weight[256:], mean.expand(4, -1))
        assert torch.equal(model.get_input_embeddings().weight[:256], before)
        teach(model, tokenizer)
        assert len(tokenizer) == model.config.vocab_size == 260


def test_a_padded_table_shrinks_to_the_tokenizer() -> None:
    model = qwen2()
    model.resize_token_embeddings(300, mean_resizing=False)
    teach(model, tiny_language_model.build_tokenizer())
    assert model.get_input_embeddings().weight.shape == (260, 32)


def test_a_model_that_changes_its_logits_is_refused() -> None:
    model = qwen2()
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(UserError, match="final_logit_softcapping = 30.0"):
        teach(model, tiny_language_model.build_tokenizer())


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("is_llm_trained", [True, False])
def test_logits_are_the_language_models_own(is_tied: bool, is_llm_trained: bool) -> None:
    model, tokenizer = qwen2() if is_tied else tiny_language_model.build_model(), tiny_language_model.build_tokenizer()
    config = UnifiedConditioner.Config(language_model="tiny", precision="fp32", is_llm_trained=is_llm_trained)
    own = UnifiedConditioner(config, num_tokens=4, language_model=(model, tokenizer))
    ids = torch.tensor([own.chat.words("a red apple")])
    states = own.read(own.embed(ids))
    torch.testing.assert_close(own.logits(states), model(input_ids=ids).logits, rtol=0, atol=1e-5)
    names = own.state_dict().keys()
    assert ("head.weight" in names) == (is_llm_trained and not is_tied)
    assert ("language_model.embed_tokens.weight" in names) == is_llm_trained
    assert (own_head(model) is None) == is_tied


def test_slots_are_filled_in_order() -> None:
    own = conditioner(num_tokens=2, vision_shape=(3, 32))
    ids = torch.tensor([[5, CONTEXT, CONTEXT, CONTEXT, QUERY, QUERY], [QUERY, QUERY, 6, CONTEXT, CONTEXT, CONTEXT]])
    shown = torch.randn(2, 3, 32)
    embeds = own.embed(ids, shown)
    assert own.projector is not None
    torch.testing.assert_close(embeds[0, 1:4], own.projector(shown[0]))
    torch.testing.assert_close(embeds[1, 3:], own.projector(shown[1]))
    assert torch.equal(embeds[0, 4:], own.queries) and torch.equal(embeds[1, :2], own.queries)
    words = own._words()(torch.tensor([5, 6]))
    assert torch.equal(torch.stack([embeds[0, 0], embeds[1, 2]]), words)


def test_the_projector_is_two_layers_with_a_gelu() -> None:
    own, tokens = conditioner(), torch.randn(1, 16, 32)
    first, _, last = own.projector
    expected = F.linear(F.gelu(F.linear(tokens, first.weight, first.bias)), last.weight, last.bias)
    torch.testing.assert_close(own.embed(torch.full((1, 16), CONTEXT), tokens), expected)


def test_another_number_of_tokens_than_slots() -> None:
    with pytest.raises(ValueError, match="16 tokens for 3 slots"):
        conditioner().embed(torch.full((1, 3), CONTEXT), torch.randn(1, 16, 32))
    with pytest.raises(UserError, match="reads words only"):
        conditioner(vision_shape=None).embed(torch.full((1, 16), CONTEXT), torch.randn(1, 16, 32))


def test_the_condition_is_read_where_a_picture_begins() -> None:
    own = conditioner()
    cond = own(PROMPTS)
    for prompt, tokens in zip(PROMPTS, cond.tokens, strict=True):
        row = [*own.chat.prompt([Turn("user", prompt)]), own.chat.image_start, *[QUERY] * 16]
        states = own.read(own.embed(torch.tensor([row])))
        torch.testing.assert_close(tokens[None], own.connector(states[:, -16:]), rtol=0, atol=1e-5)


def test_it_is_the_query_condition_with_its_template() -> None:
    own = conditioner(num_tokens=4)
    config = QueryConditioner.Config(
        language_model="tiny", precision="fp32", width=24, template="{prompt}", max_prompt_tokens=400
    )
    taught = tiny_language_model.build_model(), tiny_language_model.build_tokenizer()
    teach(*taught)
    plain = QueryConditioner(config, num_tokens=4, language_model=taught)
    plain.load_state_dict({key: own.state_dict()[key] for key in plain.state_dict()})
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nsun<|im_end|>\n"
    whole = plain([f"{text}<|im_start|>assistant\n<im_start>"])
    torch.testing.assert_close(own(["sun"]).tokens, whole.tokens, rtol=0, atol=1e-5)


def test_a_reply_stands_before_the_picture() -> None:
    own = conditioner(reply="Here you go:\n")
    row = own._rows(["sun"])[0]
    assert own.chat.tokenizer.decode(row).endswith("assistant\nHere you go:\n<im_start>")
    assert own.cache_key() != conditioner().cache_key()


def test_the_model_writes_its_own_reply() -> None:
    own = conditioner(reply=None)
    script = iter([[7, 9], [8, own.chat.image_start], [own.chat.image_start, 7]])

    def scripted(states: torch.Tensor) -> torch.Tensor:
        return F.one_hot(torch.tensor(next(script)), 260).float()

    with patch.object(own, "logits", scripted):
        first, second = own._rows(PROMPTS)
    plain = conditioner()._rows(PROMPTS)
    assert first == [*plain[0][:-1], 7, 8, own.chat.image_start]
    assert second == [*plain[1][:-1], 9, own.chat.image_start]


def test_a_model_that_answers_in_words_draws_nothing() -> None:
    own = conditioner(reply=None, max_reply_tokens=2)
    with (
        patch.object(own, "logits", lambda states: F.one_hot(torch.tensor([64]), 260).float()),
        pytest.raises(UserError, match="to 'sun' this model answers 'aa' and draws nothing"),
    ):
        own(["sun"])


def test_a_prompt_is_words_alone() -> None:
    with pytest.raises(UserError, match="<image> stands for a picture"):
        conditioner()(["like <image>"])
    with pytest.raises(UserError, match="prompt: it is empty"):
        conditioner()([" "])


def test_a_frozen_language_model_is_not_saved_and_its_new_words_are_fingerprinted() -> None:
    own = conditioner()
    names = {name.split(".")[0] for name in own.state_dict()}
    assert names == {"queries", "null_token", "fingerprint", "connector", "projector"}
    own(["sun"])
    assert own.fingerprint.any()
    again = conditioner()
    again.load_state_dict(own.state_dict())
    torch.testing.assert_close(again(["sun"]).tokens, own(["sun"]).tokens)


def test_gradients_reach_projector_and_queries_through_a_frozen_model() -> None:
    own = conditioner()
    ids = torch.tensor([[*[CONTEXT] * 16, 5, *[QUERY] * 16]])
    own.read(own.embed(ids, torch.randn(1, 16, 32)))[:, -1].sum().backward()
    assert own.projector is not None
    assert own.queries.grad is not None and own.projector[0].weight.grad is not None
    assert all(parameter.grad is None for parameter in own.reader.parameters())


@pytest.mark.parametrize("is_llm_trained", [True, False])
def test_a_generator_with_it_is_saved_and_loaded_like_any_other(tmp_path, is_llm_trained: bool) -> None:
    told = {"vision_shape": (16, 32), "is_llm_trained": is_llm_trained}
    generator = tiny_generator.unified(tmp_path, told, sampling={"steps": 2})
    latent = generator("sun", output="latent")
    generator.save(tmp_path / "generator", tmp_path / "autoencoder")
    loaded = load_generator(tmp_path / "generator", "cpu", "fp32")
    assert isinstance(loaded.conditioner, UnifiedConditioner)
    torch.testing.assert_close(loaded("sun", output="latent"), latent)


def test_sequences_packed_into_a_row_do_not_see_each_other() -> None:
    model = conditioner()
    first, second = torch.randn(1, 4, 32), torch.randn(1, 3, 32)
    row = torch.cat([first, second, torch.randn(1, 2, 32)], dim=1)
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2]])
    assert places_in(segments).tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1]]
    states = model.read(row, segments)
    torch.testing.assert_close(states[:, :4], model.read(first), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(states[:, 4:7], model.read(second), rtol=1e-4, atol=1e-5)
    assert states.isfinite().all()


def test_packed_rows_need_plain_attention() -> None:
    model = conditioner()
    model.reader.config._attn_implementation = "eager"
    with pytest.raises(UserError, match="data.row_tokens: this language model's attention has windows"):
        model.read(torch.randn(1, 2, 32), torch.tensor([[0, 1]]))


def test_the_system_may_be_silent() -> None:
    silent, usual = conditioner(system=None), conditioner()
    assert len(silent._rows(["sun"])[0]) < len(usual._rows(["sun"])[0])
    assert silent.cache_key() != usual.cache_key()
