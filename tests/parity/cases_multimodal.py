"""Parity of the unified model and its verifiers with Scale-RAE: layout, losses, gradients, drawing, answers, scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from parity.case import Case, Compute
from parity.cases_autoencoder import hf_encoder
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import to_grid, to_tokens
from raekit.autoencoder.rae import RAE
from raekit.backbones.denoising import PURPOSE_DROP, PURPOSE_EPS, PURPOSE_TIME
from raekit.checkpoint import load_strict
from raekit.conditioning.base import Cond
from raekit.data.conversations.base import turns_of
from raekit.interop.dit import dit_from
from raekit.multimodal.batch import Conversations, Spoken, collate
from raekit.multimodal.chat import CONTEXT, QUERY, Turn
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.multimodal.session import begin
from raekit.multimodal.unified import UnifiedModel, asked
from raekit.multimodal.writing import self_certainty, write
from raekit.samplers import SAMPLERS
from raekit.samplers.guidance import ClassifierFree, published_guide_outside
from raekit.transport import GRIDS
from raekit.transport.objective import FlowMatching
from raekit.verifiers.answer_logits import AnswerLogits
from raekit.verifiers.prompt_confidence import PromptConfidence

SLOT = -200
"""Their id of a slot, whatever its picture is for."""
NUM_STEPS = 50
ALL_TIMES = (-1e4, 1e4)
"""Scale-RAE's default guidance interval, under which its released guidance never acts."""
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 24,
    "image_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 8,
}
"""The tower, that of srae_13_siglip_tower."""
DECODER = ViTDecoder.Config(size="nano", width=16, depth=1, heads=2, mlp_width=24, patch_size=8)
"""Nothing here decodes."""
PARTS = {
    "model.latent_queries": "queries",
    "model.mm_projector": "projector",
    "diff_head_projector": "connector",
    "model": "language_model",
}
"""Their names to our conditioner's; the first that fits counts."""


# --- the tiny model ---------------------------------------------------------------------------------------------------


def unified(case: Case) -> UnifiedModel:
    """The whole model with its published weights."""
    lm, head, weights = case.config["lm"], case.config["diff_head"], case.weights
    generator = dit_from(case.group("weights/diff_head."))
    assert torch.equal(weights.pop("lm_head.weight"), weights["model.embed_tokens.weight"])
    own = {}
    for key, value in weights.items():
        theirs = next((theirs for theirs in PARTS if key == theirs or key.startswith(f"{theirs}.")), None)
        if theirs is not None:
            own[PARTS[theirs] + key.removeprefix(theirs)] = value
    config = UnifiedConditioner.Config(
        is_llm_trained=True,
        width=head["z_channels"],
        vision_shape=(case.config["num_image_tokens"], lm["mm_hidden_size"]),
        dropout=head["class_dropout_prob"],
        reply=None,
    )
    read_with = language_model(lm), tokenizer(case.config["tokenizer"])
    conditioner = UnifiedConditioner(config, num_tokens=head["diffusion_tokens"], language_model=read_with)
    assert generator.condition is not None
    own |= {"null_token": generator.condition, "fingerprint": conditioner.fingerprint}
    load_strict(conditioner, own, case.name)
    space = latent_space(case)
    transport = FlowMatching(FlowMatching.Config(base_dim=head["base_dim"]), space.dim)
    return UnifiedModel(conditioner.eval(), generator.backbone.eval(), transport, space)


def latent_space(case: Case) -> RAE:
    encoder = hf_encoder(case, VISION, "siglip2")
    decoder = ViTDecoder(DECODER, encoder.width, encoder.grid)
    return RAE(RAE.Config(encoder=encoder.config), encoder=encoder, decoder=decoder)


def language_model(settings: dict[str, Any]) -> Qwen2ForCausalLM:
    known = Qwen2Config().to_dict().keys() - {"transformers_version", "rope_parameters", "layer_types", "dtype"}
    rope = {"rope_type": "default", "rope_theta": settings["rope_theta"]}
    config = Qwen2Config(**{name: settings[name] for name in known & settings.keys()}, rope_parameters=rope)
    return Qwen2ForCausalLM(config)


def tokenizer(settings: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Bytes in GPT-2's order, merges, then the special tokens in the order of their ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    merges = [tuple(merge.split(" ")) for merge in settings["merges"]]
    vocabulary = {piece: index for index, piece in enumerate([*letters, *map("".join, merges)])}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(sorted(settings["specials"], key=settings["specials"].get))
    assert all(fast.token_to_id(token) == index for token, index in settings["specials"].items())
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="<|endoftext|>")


def published(ids: Tensor) -> Tensor:
    """Ids as they write them."""
    return ids.masked_fill((ids == CONTEXT) | (ids == QUERY), SLOT)


def unexpanded(ids: Sequence[int]) -> list[int]:
    """A row in which each picture is a single slot."""
    return [id for place, id in enumerate(ids) if id >= 0 or not place or ids[place - 1] != id]


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """The random numbers of a case, one of each for every conversation."""

    normals_for_t: Tensor
    noise: Tensor
    dropout: Tensor

    def uniform(self, purpose: int) -> Tensor:
        # The times are stored as normals; in float64 nothing is lost on the way back to them.
        return {PURPOSE_TIME: torch.special.ndtr(self.normals_for_t.double()), PURPOSE_DROP: self.dropout}[purpose]

    def normal(self, purpose: int, shape: Sequence[int] = ()) -> Tensor:
        assert purpose == PURPOSE_EPS and self.noise.shape[1:] == tuple(shape)
        return self.noise


def training(case: Case) -> dict[str, Tensor]:
    inputs, model = case.inputs, unified(case)
    assert torch.equal(model.backbone.time_embed.frequencies, inputs["t_embedder_W"])
    given = Given(inputs["normals_for_t"], inputs["x_end"], torch.ones_like(inputs["normals_for_t"]))
    in_training = Given(*(inputs[f"train_mode_{name}"] for name in ("normals_for_t", "x_end", "dropout_u")))
    seen = model.see(conversations(case, model))
    terms = model.loss(seen, given, is_training=False)
    terms["loss"].backward()
    with torch.no_grad():
        trained = model.loss(seen, in_training)
        embeds = model.conditioner.embed(seen.batch.ids, seen.tokens)
        states = model.conditioner.read(embeds)
        latents, cond = of_every_row(case, model, states)
        dropped = model.conditioner.drop(cond, in_training.dropout)
        return gradients(case, model) | {
            "loss": terms["loss"],
            "loss_language": terms["ce"],
            "loss_image_diffusion": terms["diffusion"],
            "sampled_t": model.transport.sample_t(given.uniform(PURPOSE_TIME)),
            "inputs_embeds": embeds,
            "hidden": states,
            "logits": model.conditioner.logits(states),
            "condition_z": cond.tokens,
            "diffusion_target": to_tokens(latents),
            "diffusion_loss_per_image": model.picture_losses(latents, cond, given)["diffusion"],
            "train_mode_loss": trained["loss"],
            "train_mode_loss_image": trained["diffusion"],
            "train_mode_loss_per_image": model.picture_losses(latents, dropped, in_training)["diffusion"],
        }


def conversations(case: Case, model: UnifiedModel) -> Conversations:
    """The case's batch, laid out by us; on the way, that ids and labels are theirs, padding included."""
    inputs, found = case.inputs, spoken(case, model)
    batch = collate(found, model.chat.padding, case.config["max_length"])
    assert torch.equal(published(batch.ids), inputs["input_ids"])
    assert torch.equal(batch.labels, inputs["labels"])
    assert torch.equal((batch.ids == QUERY).long(), inputs["answer_token_mask"])
    return batch


def spoken(case: Case, model: UnifiedModel) -> list[Spoken]:
    """The case's conversations, laid out by us, each at the position of its row."""
    inputs, images = case.inputs, pixels(case.inputs["images"])
    # A batch of one row holds one of the records: the one with its ids.
    found = []
    for record in case.config["records"]:
        has_image = "image" in record
        layout = model.chat.conversation(turns_of(record["conversations"], num_images=int(has_image)))
        for row, ids in enumerate(inputs["input_ids"]):
            if published(torch.tensor(layout.ids)).equal(ids[: len(layout)]):
                found.append(Spoken(layout, images[row : row + 1] if has_image else None, row))
    return found


def of_every_row(case: Case, model: UnifiedModel, states: Tensor) -> tuple[Tensor, Cond]:
    """Latents and condition of one picture a row. Theirs has one everywhere: of a row without a picture it is black
    and its states are zero, of one that is shown a picture the states are those in the slots."""
    is_slot = case.inputs["input_ids"] == SLOT
    at_slots = states.new_zeros(len(states), len(model.conditioner.queries), states.shape[-1])
    for row, mask in enumerate(is_slot):
        if mask.any():
            at_slots[row] = states[row][mask]
    return model.latent_space.encode(pixels(case.inputs["images"])), model.conditioner.connect({"features": at_slots})


def gradients(case: Case, model: UnifiedModel) -> dict[str, Tensor]:
    """Gradients of the loss by their names; zero where it does not reach."""
    conditioner = model.conditioner

    def of(parameter: Tensor) -> Tensor:
        return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

    def norm(parameters: Iterable[Tensor]) -> Tensor:
        return torch.stack([of(parameter).norm() for parameter in parameters]).norm()

    reader: Any = conditioner.reader
    words = reader.get_input_embeddings().weight
    return {
        "grad_norm/lm": norm(reader.layers.parameters()),
        "grad_norm/embed": norm([words]),
        "grad_norm/mm_projector": norm(conditioner.projector.parameters()),
        "grad_norm/diff_head": norm([*model.backbone.parameters(), conditioner.null_token]),
        "grad/latent_queries": of(conditioner.queries),
        "grad/diff_head_projector.bias": of(conditioner.connector.bias),
        "grad/model.mm_projector.0.bias": of(conditioner.projector[0].bias),
    }


def pixels(standardised: Tensor) -> Tensor:
    """Images in [0, 1] of what their image processor returned."""
    return standardised * 0.5 + 0.5


# --- drawing ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def generation(case: Case) -> dict[str, Tensor]:
    inputs, model = case.inputs, unified(case)
    conditioner, chat = model.conditioner, model.chat
    (row,) = inputs["input_ids"].tolist()
    request = "Generate an image of a red image"
    assert chat.prompt([Turn("user", request)]) == row
    written = write(conditioner, [row], max_tokens=1)
    _, states = begin(conditioner, [row])
    ids = torch.tensor([[*row, chat.image_start, *[QUERY] * len(conditioner.queries)]])
    embeds = conditioner.embed(ids)
    hidden = conditioner.read(embeds)
    cond = model.condition([request])
    times = GRIDS["scale_rae_published"](NUM_STEPS, model.transport.time_shift)
    guided = partial(ClassifierFree, model.backbone, cond, conditioner.null(1))

    def sample(sampler: str, *settings: Any) -> Tensor:
        return to_tokens(SAMPLERS[sampler](guided(*settings), inputs["x_end"], times))

    return {
        "generated_ids": torch.tensor(written.ids[0]),
        "logits_next": conditioner.logits(states[:, -1]),
        "denoise_input_embeds": embeds,
        "denoise_hidden": hidden,
        "query_hidden": conditioner.features([request])["features"],
        "condition_z": cond.tokens,
        "latents_official": sample("scale_rae_published", 1.0)[0],
        "latents_official_guidance3_default": sample("scale_rae_published", 3.0, ALL_TIMES, published_guide_outside)[0],
        "latents_official_guidance3_active": sample("scale_rae_published", 3.0)[0],
        "latents_plain_euler": sample("euler", 1.0),
    }


# --- seeing -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def understanding(case: Case) -> dict[str, Tensor]:
    inputs, model = case.inputs, unified(case)
    row = model.chat.prompt([asked("Does this image align with the prompt: a red image?")])
    assert unexpanded(row) == inputs["input_ids"][0].tolist()
    embeds = model.conditioner.embed(torch.tensor([row]), model.look(images=pixels(inputs["pixel_values"])))
    # Released, pixels and states are bf16 where they enter the tower and leave it, and so is what the LLM reads.
    encoder = model.latent_space.encoder
    hidden = encoder.hidden(in_bf16(inputs["pixel_values"])).bfloat16()
    rounded = F.layer_norm(hidden, hidden.shape[-1:], eps=encoder.final_norm.eps).float()
    return {
        "inputs_embeds": embeds,
        "logits": model.conditioner.logits(model.conditioner.read(embeds)),
        "inputs_embeds_official_bf16": in_bf16(model.conditioner.embed(torch.tensor([row]), rounded)),
    }


def in_bf16(value: Tensor) -> Tensor:
    """Rounded to bfloat16, in float32."""
    return value.bfloat16().float()


@contextmanager
def published_rounding(conditioner: UnifiedConditioner) -> Iterator[None]:
    """What enters the language model rounded to bf16, as released; the first norm, whose input is bf16, then rounds
    what it has normalised, and from there on all is float32."""
    embed, reader = conditioner.embed, cast(Any, conditioner.reader)

    def first_norm(norm: Any, arguments: tuple[Tensor], output: Tensor) -> Tensor:
        (x,) = arguments
        return norm.weight * in_bf16(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon))

    hook = reader.layers[0].input_layernorm.register_forward_hook(first_norm)
    with patch.object(conditioner, "embed", lambda *arguments: in_bf16(embed(*arguments))):
        yield
    hook.remove()


@torch.no_grad()
def verifier(case: Case) -> dict[str, Tensor]:
    inputs, settings, model = case.inputs, case.config, unified(case)
    latents, prompt = to_grid(inputs["image_latents"][None]), settings["prompt_text"]
    tokens = model.look(latents=latents)
    answer = AnswerLogits(AnswerLogits.Config(rule="published", max_tokens=1), model)
    confidence = PromptConfidence(PromptConfidence.Config(window="published"), model)

    def scores() -> dict[str, Tensor]:
        said, found = answer.judge(latents, prompt), confidence.judge(latents, prompt)
        return {
            "yes_logit": said["yes_logit"][0],
            "yes_conf_score": said["yes_confidence"][0],
            "prompt_confidence": found["confidence"][0],
            "prompt_loss": -found["likelihood"][0],
            "image_confidence": self_certainty(image_logits(case, model, tokens)).mean(),
        }

    outputs = scores()
    with published_rounding(model.conditioner):
        outputs |= {f"{name}_bf16_embeddings": value for name, value in scores().items()}
    written = write(model.conditioner, answer.rows([prompt]), 1, tokens)
    ((row,), (words,)) = confidence.rows([prompt])
    assert words == inputs["prompt_ids"][0].tolist()
    assert unexpanded(row) == inputs["prompt_conf_input_ids"][0].tolist()
    assert unexpanded(answer.rows([prompt])[0]) == inputs["qa_input_ids"][0].tolist()
    _, states = begin(model.conditioner, [row], tokens)
    logits = model.conditioner.logits(states[:, -len(words) :])
    per_token = -logits[0, :-1].log_softmax(-1).gather(1, inputs["prompt_ids"][0, 1:, None])[:, 0]
    return outputs | {
        "qa_generated_ids": torch.tensor(written.ids[0]),
        "qa_selected_logits": written.logits[0],
        "qa_token_confidence": written.confidence[0],
        "response_conf_score": written.confidence[0].mean(),
        "no_logit": answer.judge(latents, prompt)["no_logit"][0],
        "prompt_logits": logits,
        "prompt_ce_per_token": per_token,
        "image_confidence_n_positions": torch.tensor(image_logits(case, model, tokens).shape[1]),
    }


def image_logits(case: Case, model: UnifiedModel, tokens: Tensor) -> Tensor:
    """Logits in the slots of the picture, put back where the model drew it, ``[1, N, V]``."""
    num_slots = tokens.shape[1]
    row = [
        slot
        for id in case.inputs["image_conf_input_ids"][0].tolist()
        for slot in ([CONTEXT] * num_slots if id == SLOT else [id])
    ]
    _, states = begin(model.conditioner, [row], tokens)
    return model.conditioner.logits(states[:, -num_slots - 1 : -1])


CASES: dict[str, Compute] = {
    "srae_15a_training_batch": training,
    "srae_15a_training_t2i": training,
    "srae_15a_training_understanding": training,
    "srae_15b_generation": generation,
    "srae_15c_understanding_prefill": understanding,
    "srae_16_verifier": verifier,
}
