"""What a stage-2 recipe comes to: latent space, condition, backbone, and the work of each.

In: a resolved recipe. Out: rows of ``raekit explain``, and the parts that ``budget.py`` turns into memory and hours. No
weight is loaded, and nothing is downloaded for networks whose sizes are known without the hub: the backbone and the
language model are counted on shallow copies (``work.py``).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from raekit.backbones import BACKBONES
from raekit.backbones.base import BackboneConfig
from raekit.conditioning import CONDITIONERS
from raekit.conditioning.adapters import Adapters
from raekit.conditioning.base import Cond, Conditioner
from raekit.conditioning.language_model import is_causal, language_model_settings
from raekit.conditioning.language_shapes import known_settings
from raekit.conditioning.prompt import PromptConditioner
from raekit.conditioning.query import QueryConditioner
from raekit.lora import Adapter, LoRAConfig
from raekit.samplers.guidance import check_guidance
from raekit.training.planning.latent_outline import latent_of, outline
from raekit.training.planning.pieces import count, with_pieces
from raekit.training.planning.stage1_outline import timetable
from raekit.training.planning.work import BF16, FP32, Part, Rows, Work, work_of
from raekit.transport.objective import FlowMatching

if TYPE_CHECKING:
    from raekit.training.stage2 import Stage2

LatentShape = tuple[int, int, int]

FROZEN_BY_ADAPTERS = ("backbone", "conditioner", "language_model", "queries")
"""What learns nothing beside adapters: every part."""
LISTED_BY_BLOCK = ("layer_types", "mlp_layer_types")
"""Lists in a transformers config with an entry for each block."""
PROMPT_TOKENS = 128
"""Words of a prompt, template included, that work is counted for where ``max_prompt_tokens`` is not lower."""


def describe(config: Stage2.Config) -> Rows:
    """Rows that need no machine."""
    latent = latent_of(config)
    conditioner = outline_condition(config, latent.shape)
    backbone = outline_backbone(config.backbone, latent.shape, conditioner.width, depth=1)
    backbone.condition(torch.zeros(1, conditioner.width, device="meta"), conditioner.null(1).to("meta"))
    check_guidance(config.sampling, conditioner.dropout > 0, backbone.early is not None)
    is_there = "there" if config.latent_space.is_dir() else "not there yet"
    return [
        ("latent space", f"{latent.kind}; {config.latent_space} is {is_there}"),
        ("latent", f"{' x '.join(map(str, latent.shape))} = {latent.dim} numbers"),
        ("time shift", f"{FlowMatching(config.transport, latent.dim).time_shift:.4g}"),
        ("condition", conditioner.form),
        *_reader_row(config),
        ("backbone parameters", f"{count_backbone(config.backbone, latent.shape, conditioner.width):,}"),
        ("condition parameters", f"{_trained(conditioner) + _learned_adapters(config):,} trained"),
        *_course(config),
    ]


def parts(config: Stage2.Config) -> tuple[Part, ...]:
    """The networks at work in a training step, for :func:`raekit.training.planning.budget.budget`."""
    latent, is_bf16, lora = latent_of(config), config.train.precision != "fp32", config.lora
    conditioner = outline_condition(config, latent.shape)
    form = form_of(conditioner, config.condition)
    still = set(config.frozen) if lora is None else set(FROZEN_BY_ADAPTERS)
    work = backbone_work(config.backbone, latent.shape, conditioner.width, form, is_bf16, lora)
    work = work.at(config.times_per_picture)
    own = Work(_trained(conditioner), ends=_trained(conditioner))
    found = [
        Part("backbone", work, None if "backbone" in still else config.optim.name),
        Part("condition", own, None if "conditioner" in still else config.optim.name),
    ]
    if isinstance(conditioner, PromptConditioner):
        found.append(_reader(config, conditioner, is_bf16))
    if beside := count_adapters(config):
        # Thin beside the maps that they adapt: their weights count, their operations do not.
        optim = (config.language_model_optim or config.optim).name if _learned_adapters(config) else None
        found.append(Part("adapters", Work(beside, ends=beside), optim))
    if lora is not None:
        found += _adapters(found, config.optim.name)
    if latent.encoder is not None:
        work = with_pieces(Work(count(latent.encoder)), latent.encoder)
        if config.cache is None:
            work = latent.work() if config.autoencoder is None else encoder_work(config.autoencoder)
        found.append(Part("encoder", work, weight_bytes=latent.weight_bytes))
    return tuple(found)


def outline_condition(config: Stage2.Config, latent_shape: LatentShape) -> Conditioner:
    """The conditioner without its language model, and so without adapters in it."""
    settings, backbone = config.condition, cast(BackboneConfig, config.backbone)
    if isinstance(settings, PromptConditioner.Config):
        settings = settings.model_copy(update={"is_llm_trained": False, "lora": None})
    num_tokens = latent_shape[1] * latent_shape[2] // backbone.patch_size**2
    built: Conditioner = CONDITIONERS.build(settings, num_tokens=num_tokens)
    return built


def outline_backbone(config: Any, latent_shape: LatentShape, cond_width: int, depth: int | None = None) -> Any:
    """The backbone on the meta device, if need be with another number of blocks in its trunk."""
    if depth is not None:
        early = None if config.early_block is None else 1
        config = config.model_copy(update={"depth": depth, "early_block": early})
    with torch.device("meta"):
        return BACKBONES.build(config, latent_shape=latent_shape, cond_width=cond_width)


def count_adapters(config: Stage2.Config) -> int:
    """Numbers in the low-rank adapters that are part of the condition."""
    lora = getattr(config.condition, "lora", None)
    if lora is None:
        return 0
    with torch.device("meta"):
        return count(Adapters(lora, outline_reader(config.condition.language_model)))


@cache
def count_backbone(config: Any, latent_shape: LatentShape, cond_width: int) -> int:
    """Numbers that a backbone trains, exactly; the blocks of its trunk are alike, so one is built and counted."""
    shallow = outline_backbone(config, latent_shape, cond_width, depth=1)
    depth: int = config.shape.depth
    return count(shallow) + (depth - 1) * count(shallow.blocks[0])


@cache
def backbone_work(
    config: Any,
    latent_shape: LatentShape,
    cond_width: int,
    form: str | int,
    is_bf16: bool,
    lora: LoRAConfig | None = None,
) -> Work:
    """The work of a backbone on one image.

    Args:
        config: of the backbone.
        latent_shape: ``(C, h, w)``.
        cond_width: width of the condition.
        form: ``"vector"``, ``"tokens"``, or the number of words in context.
        is_bf16: arithmetic.
        lora: adapters, which then learn in place of the weights.
    """

    def build(depth: int) -> nn.Module:
        return _adapted("backbone", outline_backbone(config, latent_shape, cond_width, depth), lora)

    def call(backbone: Any, size: int) -> Tensor:
        z_t, t = torch.empty(size, *latent_shape), torch.empty(size)
        cond = _condition(form, size, backbone.num_tokens, cond_width)
        if backbone.early is None:
            output: Tensor = backbone(z_t, t, cond)
            return output
        both: list[Tensor] = list(backbone.with_early(z_t, t, cond))
        return torch.stack(both)

    outlined = outline_backbone(config, latent_shape, cond_width, depth=1)
    stream = (outlined.num_tokens + (form if isinstance(form, int) else 0)) * outlined.width
    depth: int = config.shape.depth
    return with_pieces(work_of(build, depth, call, is_bf16, stream), outlined)


@cache
def encoder_work(autoencoder: Any) -> Work:
    """The work of encoding one image, by the ``autoencoder`` block of a recipe."""
    return outline(autoencoder).work()


@cache
def reader_work(
    name: str, num_words: int, is_trained: bool, has_gradient: bool, is_bf16: bool, lora: LoRAConfig | None = None
) -> Work:
    """The work of a language model on one prompt.

    Args:
        name: as in a recipe.
        num_words: tokens that it reads, queries among them.
        is_trained: its weights learn.
        has_gradient: something ahead of it learns (queries), or beside its weights (adapters of the condition).
        is_bf16: arithmetic.
        lora: adapters, which then learn in place of the weights.
    """
    settings = language_model_settings(name)
    width = settings.hidden_size

    def build(depth: int) -> nn.Module:
        return _adapted("language_model", outline_reader(name, depth).requires_grad_(is_trained), lora)

    def call(model: Any, size: int) -> Tensor:
        # A mask for all heads is taken as it is; a mask of words would be looked at, and there is nothing to see.
        mask = torch.empty(size, 1, num_words, num_words, dtype=torch.bool)
        words = torch.empty(size, num_words, width, requires_grad=has_gradient)
        given = {"inputs_embeds": words}
        if is_causal(settings):
            given["position_ids"] = torch.arange(num_words)[None]
        states: Tensor = model(**given, attention_mask=mask).last_hidden_state
        return states

    work = work_of(build, settings.num_hidden_layers, call, is_bf16, num_words * width)
    return with_pieces(work, outline_reader(name, 1))


def outline_reader(name: str, depth: int | None = None) -> nn.Module:
    """A language model on the meta device, if need be with another number of blocks."""
    from transformers import AutoModel, AutoModelForTextEncoding

    settings = language_model_settings(name)
    if depth is not None:
        settings = known_settings(name, depth) or _with_depth(settings, depth)
    kind: Any = AutoModel if is_causal(settings) else AutoModelForTextEncoding
    with torch.device("meta"):
        model: nn.Module = kind.from_config(settings)
    return model.eval()


def _with_depth(settings: Any, depth: int) -> Any:
    """A transformers config with another number of blocks; what it lists block by block is as long."""
    changed = copy.deepcopy(settings)
    changed.num_hidden_layers = depth
    for name in LISTED_BY_BLOCK:
        if listed := getattr(settings, name, None):
            setattr(changed, name, [listed[number % len(listed)] for number in range(depth)])
    return changed


def _reader_row(config: Stage2.Config) -> Rows:
    """Which language model there is, and what its work is counted for."""
    settings = config.condition
    if not isinstance(settings, PromptConditioner.Config):
        return []
    is_trained = settings.is_llm_trained and _may_learn(config)
    state, length = "trained" if is_trained else "frozen", min(settings.max_prompt_tokens, PROMPT_TOKENS)
    if settings.lora is not None:
        learning = "trained" if _learned_adapters(config) else "frozen"
        state += f" beside {count_adapters(config):,} {learning} numbers of adapters of rank {settings.lora.rank}"
    return [("language model", f"{settings.language_model}, {state}; --gpu counts prompts of {length} tokens")]


def _may_learn(config: Stage2.Config) -> bool:
    """Whether a language model keeps nothing as it is that its condition trains."""
    return config.lora is None and not {"language_model", "conditioner"} & set(config.frozen)


def _learned_adapters(config: Stage2.Config) -> int:
    """Numbers in the adapters of the condition that the run trains."""
    return count_adapters(config) if _may_learn(config) else 0


def _course(config: Stage2.Config) -> Rows:
    """Length and learning rate of the run."""
    train = config.train
    pictures = train.steps * train.batch_size
    epochs = f", {pictures / train.images_per_epoch:.4g} epochs" if train.images_per_epoch else ""
    passes = train.batch_size // train.micro_batch
    split = f", in {passes} passes of {train.micro_batch}" if passes > 1 else ""
    return [
        ("steps", f"{train.steps:,} of {train.batch_size} pictures{split}"),
        ("samples", f"{pictures:,}{epochs}"),
        ("learning rate", timetable(config.optim, train.steps)),
    ]


def _reader(config: Stage2.Config, conditioner: PromptConditioner, is_bf16: bool) -> Part:
    """The language model of a recipe."""
    settings, frozen = conditioner.config, set(config.frozen)
    num_words, has_gradient = min(settings.max_prompt_tokens, PROMPT_TOKENS), False
    if isinstance(conditioner, QueryConditioner):
        num_words += len(conditioner.queries)
        has_gradient = conditioner.queries.requires_grad and not frozen & {"queries", "conditioner"}
    stored, lora = bool(getattr(config.condition, "is_llm_trained", False)), config.lora
    is_trained = stored and _may_learn(config)
    adapted = lora if lora is not None and "language_model" in lora.parts else None
    has_gradient = (has_gradient and lora is None) or _learned_adapters(config) > 0
    work = reader_work(settings.language_model, num_words, is_trained, has_gradient, is_bf16, adapted)
    if is_trained:
        return Part("language model", work, (config.language_model_optim or config.optim).name)
    is_rounded = is_bf16 and settings.precision != "fp32" and not stored
    work = work if config.cache is None else work.at_rest()
    return Part("language model", work, weight_bytes=BF16 if is_rounded else FP32)


def _adapted(name: str, module: nn.Module, lora: LoRAConfig | None) -> nn.Module:
    """A network with fresh adapters, if it is to have any, and nothing else that learns; or the network as it is."""
    if lora is not None:
        module.requires_grad_(False)
        if name in lora.parts:
            Adapter.of(nn.ModuleDict({name: module}), lora)
    return module


def _adapters(found: list[Part], optim: str) -> list[Part]:
    """The adapters of networks that have any, as parts of their own; the networks themselves are changed in the list.

    The arithmetic of both is one, and stays with the network.
    """
    adapters = []
    for number, part in enumerate(found):
        if extra := part.work.learning:
            found[number] = replace(part, work=replace(part.work, parameters=part.work.parameters - extra), optim=None)
            adapters.append(Part(f"adapters of the {part.name}", Work(extra, ends=extra), optim))
    return adapters


def form_of(conditioner: Conditioner, config: Any) -> str | int:
    """What a conditioner hands to the backbone, as its null shows: see :func:`backbone_work`."""
    null = conditioner.null(1)
    if null.context is not None:
        return min(getattr(config, "max_prompt_tokens", PROMPT_TOKENS), PROMPT_TOKENS)
    return "vector" if null.tokens is None else "tokens"


def _condition(form: str | int, size: int, num_tokens: int, width: int) -> Cond:
    if form == "vector":
        return Cond(vector=torch.empty(size, width, requires_grad=True))
    if form == "tokens":
        return Cond(tokens=torch.empty(size, num_tokens, width, requires_grad=True))
    mask = torch.empty(size, int(form), dtype=torch.bool)
    return Cond(context=torch.empty(size, int(form), width, requires_grad=True), mask=mask)


def _trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
