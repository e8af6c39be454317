"""Training the nano encoder: a small SigLIP whose tokens keep both meaning and detail.

In: captioned pictures. Out: a Hugging Face directory (vision and text tower, tokenizer) for ``encoders/nano.py``.

A frozen encoder of the published kind needs a model hub; this one is trained here so that everything works without.
Two terms pull on the same tokens: SigLIP's pairwise sigmoid loss (arXiv 2303.15343, eq. 1) makes the picture agree with
its caption, and a ViT decoder that must redraw the picture from noised tokens keeps colour and shape in them. The noise
is the one that stage 1 adds: it spreads what the tokens say over all channels, which is what a generator needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from raekit import distributed
from raekit.autoencoder.decoder import ViTDecoder
from raekit.autoencoder.latent import add_noise, noise_sigma
from raekit.config import Config
from raekit.data.dataset import DataConfig, Dataset, build_dataset
from raekit.data.loader import Batch, Loader
from raekit.data.transforms import jitter, to_float
from raekit.files import atomic_directory, atomic_file
from raekit.image_grid import image_grid
from raekit.losses.pixels import gradient_l1
from raekit.metrics.reconstruction import psnr
from raekit.training.draws import Draws
from raekit.training.linear_start import start_decoder, start_encoder
from raekit.training.stage import Recipe, Stage

PURPOSE_SIGMA, PURPOSE_EPS, PURPOSE_JITTER = range(3)
MAX_TOKENIZER_CAPTIONS = 20_000
NUM_START_IMAGES = 1024


class TowerConfig(Config):
    """Size of one transformer tower; its MLP is four times as wide."""

    width: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)


class EncoderStage(Stage):
    """Sigmoid contrastive loss on (picture, caption) pairs, plus redrawing the picture from its tokens."""

    class Config(Recipe):
        """Settings of the encoder stage.

        The captions that a picture is told apart from are those of its micro-batch, over all processes: the number of
        processes changes no result, ``train.micro_batch_size`` does.
        """

        stage: Literal["encoder"] = "encoder"
        data: DataConfig
        """Training pictures."""
        held_out: DataConfig
        """Pictures that are never trained on, for retrieval and PSNR."""
        image_size: int = Field(64, gt=0)
        """Side of the square input, pixels."""
        patch_size: int = Field(16, gt=0)
        """Side of a patch, pixels."""
        vision: TowerConfig
        """Image tower; its width is the width of the tokens."""
        text: TowerConfig
        """Text tower; only training and scoring need it."""
        vocabulary: int = Field(4096, gt=256)
        """Size of the byte-level BPE vocabulary, learned from the captions."""
        caption_tokens: int = Field(24, gt=2)
        """Captions are cut to this many tokens."""
        decoder: ViTDecoder.Config
        """Decoder of the detail term; stage 1 may start from it."""
        detail_weight: float = Field(5.0, ge=0)
        """Weight of the redrawing term beside the contrastive one."""
        tau: float = Field(0.5, ge=0)
        """Noise on the tokens before they are redrawn."""
        jitter: float = Field(0.1, ge=0, lt=1)
        """Largest relative shift and zoom of the augmentation."""
        is_linear_start: bool = True
        """Start as the best linear code of the patches (see ``linear_start.py``) instead of from noise."""
        num_held_out: int = Field(256, gt=1)
        """Held-out pictures used by ``evaluate``."""

        @model_validator(mode="after")
        def _has_something_to_tell_apart(self) -> EncoderStage.Config:
            if self.train.micro_batch < 2:
                raise ValueError(
                    "train: micro_batch_size 1 leaves no other caption to tell a picture from; make it 2 or more"
                )
            return self

    def __init__(self, config: Config, device: torch.device) -> None:
        super().__init__(config, device)
        self.dataset = build_dataset(config.data, config.seed)
        self.tokenizer = train_tokenizer(_captions(self.dataset), config.vocabulary, config.caption_tokens)
        self.model = build_siglip(config).to(device)
        grid = config.image_size // config.patch_size
        self.decoder = ViTDecoder(config.decoder, config.vision.width, grid).to(device)
        if config.is_linear_start:
            self._start_linear()

    def modules(self) -> dict[str, nn.Module]:
        return {"siglip": self.model, "decoder": self.decoder}

    def batches(self, position: int, size: int) -> Iterator[Batch]:
        return self.read(self.dataset, position, size)

    def data_fingerprint(self) -> str:
        return self.dataset.mixture.fingerprint()

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        image = jitter(to_float(batch.image.to(self.device)), draws.normal(PURPOSE_JITTER, (3,)), self.config.jitter)
        tokens, embedding = self._see(image)
        contrastive = self._contrastive(embedding, self._read(batch.captions))
        sigma = noise_sigma("uniform", self.config.tau, draws.uniform(PURPOSE_SIGMA))
        redrawn = self._draw(add_noise(tokens, sigma, draws.normal(PURPOSE_EPS, tokens.shape[1:])))
        detail = (redrawn - image).abs().mean() + gradient_l1(redrawn, image)
        total = contrastive + self.config.detail_weight * detail
        return {"loss": total, "contrastive": contrastive, "detail": detail}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Image-to-caption retrieval among the held-out pictures, and PSNR of the redrawn ones."""
        batch = self._held_out_batch(self.config.num_held_out)
        image = to_float(batch.image.to(self.device))
        tokens, embedding = self._see(image)
        similarity = embedding @ self._read(batch.captions).T
        hits = similarity.argmax(dim=1) == torch.arange(len(similarity), device=similarity.device)
        return {"retrieval_at_1": float(hits.float().mean()), "psnr": float(psnr(self._draw(tokens), image).mean())}

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Held-out pictures above what the tokens still know of them."""
        image = to_float(self._held_out_batch(8).image.to(self.device))
        return image_grid(torch.cat([image, self._draw(self._see(image)[0])]), columns=8)

    def export(self, directory: Path) -> Path:
        """``encoder/`` (transformers layout, with tokenizer) and ``detail_decoder.safetensors`` for stage 1.

        The encoder is stored in bf16: it is frozen from here on, so everything later is trained on these very values.
        """
        path = directory / "encoder"
        with atomic_directory(path) as temporary:
            stored = build_siglip(self.config)  # a network that was cut over processes cannot be copied
            stored.load_state_dict(self.model.state_dict())
            stored.to(torch.bfloat16).save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
        with atomic_file(directory / "detail_decoder.safetensors") as temporary:
            save_file({k: v.cpu().contiguous() for k, v in self.decoder.state_dict().items()}, temporary)
        return path

    @torch.no_grad()
    def _start_linear(self) -> None:
        """Principal components into the patch embedding, least squares into the decoder's last layer."""
        # All of them in every process, not its share: every process must start as the same code.
        loader = Loader(self.dataset, NUM_START_IMAGES, stop=NUM_START_IMAGES)
        loader.quarantine = self.quarantine
        image = to_float(next(iter(loader)).image.to(self.device))
        start_encoder(self.model.vision_model, image)
        tokens = self._see(image)[0]
        sigma = torch.full((len(tokens),), self.config.tau / 2, device=self.device)
        noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(self.config.seed)).to(tokens)
        start_decoder(self.decoder, add_noise(tokens, sigma, noise), image * 2 - 1)

    def _see(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image ``[B,3,S,S]`` in [0,1] to standardised tokens ``[B,N,D]`` and a unit embedding ``[B,D]``."""
        vision = self.model.vision_model
        hidden = vision.encoder(inputs_embeds=vision.embeddings(image * 2 - 1)).last_hidden_state
        tokens = F.layer_norm(hidden.float(), hidden.shape[-1:], eps=vision.post_layernorm.eps)
        return tokens, F.normalize(vision.head(vision.post_layernorm(hidden)).float(), dim=-1)

    def _read(self, captions: Sequence[str]) -> Tensor:
        """Captions to unit embeddings ``[B,D]``."""
        length = self.config.caption_tokens
        ids = self.tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        pooled = self.model.text_model(input_ids=ids["input_ids"].to(self.device)).pooler_output
        return F.normalize(pooled.float(), dim=-1)

    def _contrastive(self, image: Tensor, text: Tensor) -> Tensor:
        """Mean over this process's pictures of the summed pairwise sigmoid loss, against everybody's captions.

        Gradients reach this process's pictures through its rows of the matrix of all pairs, and its captions through
        its columns; averaged over the processes they are those of the whole matrix.

        Args:
            image: unit embeddings ``[B,D]``.
            text: likewise, of the captions.
        """
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        if distributed.world() == 1:
            return _pairwise(image @ text.T * scale + bias, 0)
        first = distributed.rank() * len(image)
        texts, images = distributed.all_rows(text), distributed.all_rows(image)
        rows = _pairwise(image @ texts.T * scale + bias, first)
        columns = _pairwise(text @ images.T * scale.detach() + bias.detach(), first)
        return rows + columns - columns.detach()

    def _draw(self, tokens: Tensor) -> Tensor:
        """Image ``[B,3,S,S]`` in [0,1], redrawn from tokens."""
        image: Tensor = self.decoder(tokens).float() * 0.5 + 0.5
        return image

    def _held_out_batch(self, size: int) -> Batch:
        return next(iter(Loader(build_dataset(self.config.held_out), size, stop=size)))


def _pairwise(logits: Tensor, first: int) -> Tensor:
    """Mean over rows of the summed sigmoid loss of logits ``[B,N]``, where row ``i`` matches column ``first + i``."""
    signs = -torch.ones_like(logits)
    signs.diagonal(first).fill_(1.0)
    loss: Tensor = -F.logsigmoid(signs * logits).sum() / len(logits)
    return loss


def build_siglip(config: EncoderStage.Config) -> Any:
    """A fresh ``SiglipModel`` of the recipe's size; the text tower projects to the image tower's width."""
    from transformers import SiglipConfig, SiglipModel

    vision, text = config.vision, config.text
    settings = SiglipConfig(
        vision_config={
            **_tower(vision),
            "image_size": config.image_size,
            "patch_size": config.patch_size,
        },
        text_config={
            **_tower(text),
            "vocab_size": config.vocabulary,
            "max_position_embeddings": config.caption_tokens,
            "projection_size": vision.width,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
    )
    model = SiglipModel(settings).train()
    # arXiv 2303.15343, section 3.2: start at temperature 10 and bias -10, where most pairs already count as negatives.
    nn.init.constant_(model.logit_scale, math.log(10.0))
    nn.init.constant_(model.logit_bias, -10.0)
    return model


def train_tokenizer(captions: Sequence[str], vocabulary: int, length: int) -> Any:
    """A byte-level BPE tokenizer learned from the captions, lower-cased, ending with ``</s>`` (also the padding)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=length
    )


def _tower(config: TowerConfig) -> dict[str, int]:
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": 4 * config.width,
    }


def _captions(dataset: Dataset) -> list[str]:
    """Captions for the tokenizer: those of one epoch, or of the first positions of an endless data set."""
    return [dataset.caption(position) for position in range(min(len(dataset), MAX_TOKENIZER_CAPTIONS))]
