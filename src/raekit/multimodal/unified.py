"""The unified model: one language model and one backbone in one latent space, which draw, see and speak.

    conversation --LLM--> words --------------------------------> cross entropy      (ce)
                      '-> queries --connector--> condition --+
                                true latent, noise, time ----+-> DiT --> flow matching (diffusion)

In: conversations with pictures, or prompts, images, latents. Out: the two training losses; conditions; tokens of what
is seen. The losses are trained together as ``ce + 2 diffusion``; gradients of the second reach the language model
through the queries. Drawing itself is the generator's (``generate.py``), of which this is another view: the same
parts, asked other things (``understand.py``). Scale-RAE, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raekit.autoencoder.base import Autoencoder, NoiseSource
from raekit.backbones.base import Backbone
from raekit.backbones.denoising import Denoiser, denoising_losses
from raekit.conditioning.base import Cond
from raekit.data.transforms import to_float
from raekit.device import sent
from raekit.encoders.base import RepresentationEncoder
from raekit.errors import UserError
from raekit.multimodal.batch import Conversations, Counts, PictureDraws, Seen
from raekit.multimodal.chat import IMAGE, Chat, Turn
from raekit.multimodal.conditioner import UnifiedConditioner
from raekit.multimodal.eye import eye_of
from raekit.transport.objective import FlowMatching

BUNDLED = "models/nano/unified"
"""The unified model that ships inside the package."""
DIFFUSION_WEIGHT = 2.0
"""Weight of the diffusion loss beside the cross entropy (Scale-RAE's released code)."""


class Drawer(Denoiser, Protocol):
    """What this needs of a generator: :class:`~raekit.generate.ImageGenerator` has it."""

    config: Any
    latent_space: Any
    prompt_kind: ClassVar[str]


class UnifiedModel:
    """A generator that can also be asked.

    Args:
        conditioner: the language model with projector and queries.
        backbone: what draws.
        transport: what it predicts.
        latent_space: what it draws in, and, if an RAE, sees with.
        tower: what it sees with beside a VAE, if that is loaded already.

    Attributes:
        eye: pictures to tokens; None for a model that only reads.
        chat: how conversations are laid out.
        diffusion_weight: of the diffusion loss beside the cross entropy.
        times_per_picture: at how many times a picture to be drawn is learned in a step.

    Raises:
        UserError: latent space, tower and projector do not belong together.
    """

    def __init__(
        self,
        conditioner: UnifiedConditioner,
        backbone: Backbone,
        transport: FlowMatching,
        latent_space: Autoencoder,
        tower: RepresentationEncoder | None = None,
    ) -> None:
        self.conditioner, self.backbone, self.transport = conditioner, backbone, transport
        self.latent_space = latent_space
        self.eye = eye_of(conditioner.config, latent_space, tower)
        self.diffusion_weight, self.times_per_picture = DIFFUSION_WEIGHT, 1
        self.modules: dict[str, nn.Module] = {"backbone": backbone, "conditioner": conditioner}

    @classmethod
    def of(cls, generator: Drawer, tower: RepresentationEncoder | None = None) -> Self:
        """The same parts as ``generator``'s, to be trained together or asked.

        Raises:
            UserError: its conditioner is of another kind.
        """
        if not isinstance(generator.conditioner, UnifiedConditioner):
            raise UserError(
                f"model: its condition is {generator.config.condition.name!r}, which only reads "
                f"{generator.prompt_kind}; questions need a model trained with the condition 'unified'"
            )
        return cls(generator.conditioner, generator.backbone, generator.transport, generator.latent_space, tower)

    @property
    def chat(self) -> Chat:
        return self.conditioner.chat

    def condition(self, prompts: Sequence[str]) -> Cond:
        """What prompts ask to be drawn, ``Cond(tokens=[B, N, Z])``.

        Raises:
            UserError: an empty prompt, or one that the model answers without a picture.
        """
        cond: Cond = self.conditioner(prompts)
        return cond

    @torch.no_grad()
    def see(self, batch: Conversations, draws: NoiseSource | None = None, is_together: bool = False) -> Seen:
        """A batch through the frozen networks, which no gradient reaches.

        Args:
            batch: on any device.
            draws: of its conversations; needed where the latent space is a distribution that is drawn from.
            is_together: the frozen networks are cut over processes and only run where all run them: without a picture
                they are shown a black one, whose result is thrown away.

        Raises:
            UserError: pictures are shown to a model that only reads.
        """
        device, tokens, latents = self.latent_space.device, None, None
        black = torch.zeros(1, 3, *2 * (self.latent_space.output_size,), device=device) if is_together else None
        # Everybody looks first and encodes then: networks that are cut must be run in one order.
        if batch.shown is not None:
            tokens = self.look(images=batch.shown)
        elif black is not None and self.eye is not None:
            self.look(images=black)
        if batch.drawn is not None:
            images = unit_range(batch.drawn.to(device))
            if draws is None:
                latents = self.latent_space.encode(images)
            else:
                latents = self.latent_space.encode_sample(images, PictureDraws(draws, batch.rows, batch.places))
        elif black is not None:
            self.latent_space.encode(black)
        return Seen(batch, tokens, latents)

    def loss(
        self,
        batch: Conversations | Seen,
        draws: NoiseSource,
        counts: Counts | None = None,
        is_training: bool = True,
    ) -> dict[str, Tensor]:
        """The terms of a batch.

        Args:
            batch: as it is, or already seen.
            draws: random numbers of its conversations.
            counts: what the sums are divided by; by default what this batch holds. With those of a larger batch, the
                terms of its micro-batches add up to the terms of the whole.
            is_training: drop conditions.

        Returns:
            ``ce``, mean over the words that are learned, and ``diffusion``, mean over the pictures to be drawn (0
            without any); ``loss`` is ``ce + 2 diffusion``. With an early head also ``flow`` and ``self``, the parts of
            ``diffusion``.
        """
        seen = batch if isinstance(batch, Seen) else self.see(batch, draws)
        return self.terms(seen, self.states(seen), draws, counts, is_training)

    def states(self, seen: Seen) -> Tensor:
        """Final states of the language model, ``[R, L, H]``."""
        said, device = seen.batch, self.conditioner.queries.device
        segments = None if said.segments is None else sent(said.segments, device)
        return self.conditioner.read(self.conditioner.embed(sent(said.ids, device), seen.tokens), segments)

    def terms(
        self, seen: Seen, states: Tensor, draws: NoiseSource, counts: Counts | None = None, is_training: bool = True
    ) -> dict[str, Tensor]:
        """The terms of a batch whose states are known; otherwise as :meth:`loss`."""
        said, counts = seen.batch, counts or seen.batch.counts
        ce = self.word_losses(states, said).sum() / _at_least_one(counts.words)
        terms = {"ce": ce, "diffusion": ce.new_zeros(())}
        if seen.latents is not None:
            cond, own = self.connect(states, said), PictureDraws(draws, said.rows, said.places)
            of_pictures = self.picture_losses(seen.latents, cond, own, is_training)
            terms |= {name: value.sum() / _at_least_one(counts.pictures) for name, value in of_pictures.items()}
        return {"loss": terms["ce"] + self.diffusion_weight * terms["diffusion"], **terms}

    def idle(self, states: Tensor) -> Tensor:
        """Zero, by way of the backbone: weights that are cut over processes only run where all run them together.

        Args:
            states: of a batch in which nothing is drawn, ``[R, L, H]``; only their device counts.
        """
        latent = states.new_zeros(1, *self.latent_space.shape)
        said: Tensor = self.backbone(latent, latent.new_ones(1), self.conditioner.null(1))
        return 0 * said.sum()

    def word_losses(self, states: Tensor, said: Conversations) -> Tensor:
        """Cross entropy of every word that is learned, ``[W]`` float32, from the state before it.

        Only these go through the last layer: it is wide, and most positions are pictures.
        """
        labels, learned = (sent(value, states.device) for value in (said.labels, said.learned))
        logits = self.conditioner.logits(states.flatten(0, 1).index_select(0, learned - 1))
        return F.cross_entropy(logits, labels.flatten().index_select(0, learned), reduction="none")

    def connect(self, states: Tensor, said: Conversations) -> Cond:
        """The condition of the ``K`` pictures to be drawn, from the states ``[R, L, H]`` at their queries."""
        at_queries = states.flatten(0, 1).index_select(0, sent(said.queries, states.device))
        shape = (-1, len(self.conditioner.queries), states.shape[-1])
        return self.conditioner.connect({"features": at_queries.view(shape)})

    def picture_losses(
        self, latents: Tensor, cond: Cond, draws: NoiseSource, is_training: bool = False
    ) -> dict[str, Tensor]:
        """``diffusion`` ``[K]`` of latents ``[K,C,h,w]`` under a condition; with an early head also its two parts.

        Args:
            latents: clean.
            cond: of ``K`` pictures.
            draws: random numbers of the pictures.
            is_training: drop conditions, and learn each picture at ``times_per_picture`` times.
        """
        times = self.times_per_picture if is_training else 1
        terms = denoising_losses(self, latents, cond, draws, is_training, times)
        return {"diffusion": terms.pop("loss"), **terms}

    @torch.no_grad()
    def look(self, images: Tensor | None = None, latents: Tensor | None = None) -> Tensor:
        """Tokens ``[M,N,D]`` of images ``[M,3,H,W]`` (uint8, or float in [0, 1]), or of latents ``[M,C,h,w]``.

        Raises:
            UserError: both or neither, a model that only reads, or latents that it cannot see.
        """
        if (images is None) == (latents is None):
            raise UserError("question: give what it is about, images or latents, and one of them only")
        if self.eye is None:
            raise UserError("image: this model reads words only; it was built without a projector (vision_shape)")
        if latents is not None:
            return self.eye.look_at_latent(latents)
        assert images is not None
        return self.eye.look(unit_range(images.to(self.latent_space.device)))


def asked(question: str) -> Turn:
    """A question about one picture, which comes first, as published.

    Raises:
        UserError: it is empty, or mentions pictures of its own.
    """
    if not question.strip():
        raise UserError("question: it is empty; ask something")
    if IMAGE in question:
        raise UserError(f"question: {IMAGE} stands for a picture, which is put before the question; leave it out")
    return Turn("user", f"{IMAGE}\n{question}")


def _at_least_one(count: float | Tensor) -> float | Tensor:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)


def unit_range(image: Tensor) -> Tensor:
    """Pixels in [0, 1], of uint8 or of such as are there already."""
    return to_float(image) if image.dtype == torch.uint8 else image
