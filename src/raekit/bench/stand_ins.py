"""Random weights and pictures of noise in place of those that a recipe names: to time it before any is here.

In: a recipe of stage 2 or of the unified stage. Out: the same recipe on networks of the same shapes and a few pictures
with captions and labels, or conversations about them in the shares of its mixture, all below a temporary folder; it
trains like any other, and learns nothing. What is here already (a latent space, SmolLM2) stays.

How long prompts are read does not follow from a recipe: the captions here have :data:`CAPTION_TOKENS` tokens, and so
have a question about a picture and its answer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from PIL import Image

from raekit.autoencoder import AUTOENCODERS
from raekit.autoencoder.rae import RAE
from raekit.autoencoder.vae import VAE
from raekit.conditioning.language_model import SMOLLM2_NAME
from raekit.conditioning.language_shapes import known_settings
from raekit.conditioning.prompt import PromptConditioner
from raekit.data.conversations.base import IMAGE, ConversationConfig
from raekit.data.conversations.dataset import ConversationDataConfig
from raekit.data.conversations.files import Llava
from raekit.data.conversations.questions import Questions
from raekit.data.conversations.requests import Requests
from raekit.data.folder import Folder
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.multimodal.chat import TURN_END, TURN_START
from raekit.training.planning.latent_outline import PUBLISHED_VAES, vae_network
from raekit.training.planning.unified_plan import draws

if TYPE_CHECKING:
    from raekit.training.stage2 import Stage2

C = TypeVar("C", bound="Stage2.Config")

CAPTION_TOKENS = 64
"""Of every caption, question and answer, without the template."""
MAX_TOKENS = 4096
"""Of a conversation: no stand-in is passed over because it is too long."""
NUM_PICTURES, SIDE = 16, 256
CHAT_TOKENS = (TURN_START, TURN_END, "<|endoftext|>")
"""What Qwen2.5 has one token for."""


@contextmanager
def stand_ins(recipe: C) -> Iterator[C]:
    """The recipe with random weights and pictures, as long as the block lasts.

    Raises:
        UserError: a recipe whose networks are not known without their files.
    """
    if recipe.lora is not None:
        raise UserError("lora: it adapts weights that are here, and random ones are none; leave out --random-weights")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        changes: dict[str, Any] = {"init_generator": None, "cache": None}
        if not recipe.latent_space.is_dir():
            changes["latent_space"] = _latent_space(recipe.autoencoder, folder)
        if isinstance(recipe.condition, PromptConditioner.Config):
            language_model = _language_model(recipe.condition.language_model, folder / "language_model")
            changes["condition"] = recipe.condition.model_copy(
                update={"language_model": language_model, **_tower(recipe.condition, folder / "tower")}
            )
        pictures = _pictures(folder / "pictures")
        for part in ("data", "held_out"):
            data: Any = getattr(recipe, part)
            if isinstance(data, ConversationDataConfig):
                talks = _conversations(data.mixture, pictures, _do_files_draw(recipe))
                changes[part] = data.model_copy(update={"mixture": talks, "max_tokens": MAX_TOKENS})
            else:
                changes[part] = data.model_copy(update={"mixture": (Folder.Config(path=pictures),)})
        yield recipe.model_copy(update=changes)


def _latent_space(config: Any, folder: Path) -> Path:
    """An RAE on a random encoder of the published sizes, or a random VAE of FLUX's or SDXL's."""
    placed: RAE.Config | VAE.Config
    if isinstance(config, RAE.Config):
        placed = config.model_copy(update={"encoder": _encoder(config.encoder, folder / "encoder")})
    elif isinstance(config, VAE.Config) and config.model in PUBLISHED_VAES:
        with torch.random.fork_rng():
            vae_network(PUBLISHED_VAES[config.model]).save_pretrained(folder / "vae")
        placed = config.model_copy(update={"model": str(folder / "vae"), "subfolder": None, "revision": None})
    else:
        raise UserError(
            "autoencoder: random weights are made of an RAE that the recipe states, or of the VAE of FLUX or SDXL; "
            "state one, or give a latent_space that is here"
        )
    AUTOENCODERS.build(placed).save(folder / "autoencoder")
    return folder / "autoencoder"


def _tower(condition: PromptConditioner.Config, folder: Path) -> dict[str, Any]:
    """Of a condition that sees through an encoder of its own, that encoder with random weights."""
    tower = getattr(condition, "tower", None)
    return {} if tower is None else {"tower": _encoder(tower, folder)}


def _encoder(config: EncoderConfig, folder: Path) -> EncoderConfig:
    """A random encoder of the published sizes."""
    encoder: Any = ENCODERS[config.model_dump()["name"]].outline(config).backbone
    with torch.random.fork_rng():
        type(encoder)(encoder.config).save_pretrained(folder)
    return config.model_copy(update={"path": str(folder), "revision": None})


def _language_model(name: str, folder: Path) -> str:
    """A random language model of the published sizes, whose tokens are bytes; one that is here stays."""
    from transformers import AutoModelForCausalLM

    if name == SMOLLM2_NAME or Path(name).expanduser().is_dir():
        return name
    settings = known_settings(name)
    if settings is None:
        raise UserError(
            f"condition.language_model: the sizes of {name!r} are not known without its files; give its directory"
        )
    with torch.random.fork_rng():
        model: Any = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
        model.save_pretrained(folder)
    _tokenizer(settings.vocab_size).save_pretrained(folder)
    return str(folder)


def _tokenizer(num_words: int) -> Any:
    """Of bytes; it knows as many words as the model has rows, most of which never come."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    never = (f"<never {number}>" for number in range(num_words - len(letters) - len(CHAT_TOKENS)))
    vocabulary = {word: index for index, word in enumerate((*letters, *never))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=list(CHAT_TOKENS))  # type: ignore[no-untyped-call]


def _pictures(folder: Path) -> Path:
    """Pictures of noise in two classes, each with its caption beside it."""
    generator = torch.Generator().manual_seed(0)
    for number in range(NUM_PICTURES):
        place = folder / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(place / f"{number}.jpg")
        (place / f"{number}.txt").write_text("x" * CAPTION_TOKENS, encoding="utf-8")
    return folder


def _do_files_draw(recipe: Any) -> bool:
    """Whether conversations in files stand for requests: where something is drawn, and nothing else asks for it."""
    return draws(recipe) and not any(isinstance(source, Requests.Config) for source in recipe.data.mixture)


def _conversations(
    mixture: Sequence[ConversationConfig], pictures: Path, do_files_draw: bool
) -> tuple[ConversationConfig, ...]:
    """For every source one of the same weight: requests for the pictures, or a question about each."""
    asked = pictures.parent / "questions.jsonl"
    words = "x" * CAPTION_TOKENS
    turns = [{"from": "human", "value": f"{IMAGE}\n{words}"}, {"from": "gpt", "value": words}]
    lines = [
        json.dumps({"image": str(path.relative_to(pictures.parent)), "conversations": turns})
        for path in sorted(pictures.rglob("*.jpg"))
    ]
    asked.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def standing(source: ConversationConfig) -> ConversationConfig:
        if isinstance(source, Requests.Config):
            return source.model_copy(update={"source": Folder.Config(path=pictures)})
        if do_files_draw and not isinstance(source, Questions.Config):
            return Requests.Config(
                source=Folder.Config(path=pictures), plain=1, weight=source.weight, domain=source.domain
            )
        return Llava.Config(path=asked, weight=source.weight, domain=source.domain)

    return tuple(standing(source) for source in mixture)
