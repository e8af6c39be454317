"""Random weights and pictures of noise in place of those that a stage-2 recipe names: to time it before any is here.

In: a recipe. Out: the same recipe on networks of the same shapes and a few pictures with captions and labels, all below
a temporary folder; it trains like any other, and learns nothing. What is here already (a latent space, SmolLM2) stays.

How long prompts are read does not follow from a recipe: the captions here have :data:`CAPTION_TOKENS` tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from raekit.autoencoder import AUTOENCODERS
from raekit.autoencoder.rae import RAE
from raekit.conditioning.language_model import SMOLLM2_NAME
from raekit.conditioning.language_shapes import known_settings
from raekit.conditioning.prompt import PromptConditioner
from raekit.data.folder import Folder
from raekit.encoders import ENCODERS
from raekit.errors import UserError
from raekit.multimodal.chat import TURN_END, TURN_START

if TYPE_CHECKING:
    from raekit.training.stage2 import Stage2

CAPTION_TOKENS = 64
"""Of every caption, without the template."""
NUM_PICTURES, SIDE = 16, 256
CHAT_TOKENS = (TURN_START, TURN_END, "<|endoftext|>")
"""What Qwen2.5 has one token for."""


@contextmanager
def stand_ins(recipe: Stage2.Config) -> Iterator[Stage2.Config]:
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
            changes["condition"] = recipe.condition.model_copy(update={"language_model": language_model})
        source = Folder.Config(path=_pictures(folder / "pictures"))
        for part in ("data", "held_out"):
            changes[part] = getattr(recipe, part).model_copy(update={"mixture": (source,)})
        yield recipe.model_copy(update=changes)


def _latent_space(config: Any, folder: Path) -> Path:
    """An RAE on a random encoder of the published sizes."""
    if not isinstance(config, RAE.Config):
        raise UserError(
            "autoencoder: random weights are made of an RAE that the recipe states; state one, or give a latent_space "
            "that is here"
        )
    kind = ENCODERS[config.encoder.model_dump()["name"]]
    encoder = kind.outline(config.encoder).backbone
    with torch.random.fork_rng():
        type(encoder)(encoder.config).save_pretrained(folder / "encoder")
    placed = config.encoder.model_copy(update={"path": str(folder / "encoder"), "revision": None})
    AUTOENCODERS.build(config.model_copy(update={"encoder": placed})).save(folder / "autoencoder")
    return folder / "autoencoder"


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
