"""Stage 1: training a latent space to give pictures back.

In: pictures. Out: a latent-space artefact (decoder, latent statistics, the encoder's identity).

The encoder of a representation autoencoder is frozen. Its tokens receive noise of a random level, so that the decoder
also accepts what a generator will produce (RAE, section 4.3), and the decoder redraws the picture. It is judged by
pixels, by a perceptual network, and, once it draws well enough, by a discriminator that learns beside it (RAE, appendix
C.2). A variational autoencoder is trained here too, encoder and all, as the baseline with everything else equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from raekit import config, distributed
from raekit.autoencoder import AUTOENCODERS
from raekit.autoencoder.base import Trainable
from raekit.autoencoder.rae import RAE
from raekit.checkpoint import load_safetensors, load_strict
from raekit.config import component
from raekit.data.dataset import DataConfig, Dataset, build_dataset
from raekit.data.loader import Batch, Loader
from raekit.data.transforms import to_float
from raekit.durations import Steps
from raekit.encoders import ENCODERS
from raekit.encoders.base import EncoderConfig
from raekit.errors import UserError
from raekit.image_grid import image_grid
from raekit.losses.reconstruction import ReconstructionLoss
from raekit.metrics.reconstruction import psnr, ssim
from raekit.training.adversary import Adversary
from raekit.training.balance import Drawn, Pictures, Slope, Sweep, shares
from raekit.training.blocks import blocks_of
from raekit.training.draws import Draws
from raekit.training.held_out import collected, dealt
from raekit.training.planning import stage1_outline, stage1_plan
from raekit.training.planning.machines import Machine
from raekit.training.planning.work import Part
from raekit.training.stage import Group, Micro, Player, Recipe, Stage, Terms, add_terms, named_parameters

if TYPE_CHECKING:
    AutoencoderChoice = config.Config
    EncoderChoice = EncoderConfig
else:
    AutoencoderChoice = component(AUTOENCODERS)
    EncoderChoice = component(ENCODERS)

BATCH = 128
"""Pictures looked at together where nothing is learned."""


class Stage1(Stage):
    """A latent space learns to redraw pictures."""

    class Config(Recipe):
        """Settings of stage 1."""

        stage: Literal["stage1"] = "stage1"
        data: DataConfig
        """Training pictures."""
        held_out: DataConfig
        """Pictures that are never trained on."""
        autoencoder: AutoencoderChoice
        """The latent space: encoder, decoder, noise and form of the statistics."""
        init_decoder: Path | None = None
        """Decoder weights to start from, safetensors; None = a fresh decoder."""
        losses: ReconstructionLoss.Config = ReconstructionLoss.Config()
        """Weights of the loss terms."""
        loss_encoder: EncoderChoice | None = None
        """Encoder that losses and discriminator look through; None = the latent space's own."""
        adversary: Adversary.Config | None = None
        """The adversarial term; None = none."""
        share_every_steps: Steps = Field(100, gt=0)
        """Steps between measurements of each term's share of the gradient at the decoder's last layer."""
        num_statistics: int = Field(50_000, gt=0)
        """Most training pictures used for the latent statistics."""
        num_held_out: int = Field(256, gt=0)
        """Held-out pictures used by ``evaluate``."""

    def __init__(self, config: Config, device: torch.device) -> None:
        super().__init__(config, device)
        self.dataset = build_dataset(config.data, config.seed)
        self.autoencoder = _trainable(config).to(device)
        if config.init_decoder is not None:
            decoder = self.autoencoder.trained()["decoder"]
            load_strict(decoder, load_safetensors(config.init_decoder), str(config.init_decoder))
        self.autoencoder.train()
        own = self.autoencoder.encoder if isinstance(self.autoencoder, RAE) else None
        encoder = own if config.loss_encoder is None else ENCODERS.build(config.loss_encoder).to(device)
        self._are_tokens_known = own is not None and encoder is own
        self.reconstruction = ReconstructionLoss(config.losses, encoder, device)
        self.adversary = None if config.adversary is None else Adversary(config.adversary, encoder, device)

    def modules(self) -> dict[str, nn.Module]:
        modules = self.autoencoder.trained()
        return modules if self.adversary is None else {**modules, "discriminator": self.adversary.discriminator}

    def players(self) -> list[Player]:
        """The latent space, then the discriminator, which sees the pictures of the weights just updated."""
        main = Group(named_parameters(self.autoencoder.trained()), self.config.optim)
        players = [Player("", {"model": main}, self.descend)]
        if self.adversary is not None:
            settings = self.adversary.config
            heads = named_parameters({"discriminator": self.adversary.discriminator})
            group = Group(heads, settings.optim, is_averaged=False)
            start = settings.discriminator_start_steps
            players.append(Player("discriminator", {"model": group}, self.descend_discriminator, start))
        return players

    def blocks(self) -> list[nn.Module]:
        """Those of the latent space; a discriminator's heads are a few convolutions."""
        return [block for module in self.autoencoder.trained().values() for block in blocks_of(module)]

    def batches(self, position: int, size: int) -> Iterator[Batch]:
        return self.read(self.dataset, position, size)

    def counts(self, position: int) -> dict[str, int]:
        return self.dataset.mixture.counts(position)

    def data_fingerprint(self) -> str:
        return self.dataset.mixture.fingerprint()

    @torch.no_grad()
    def prepare(self, batch: Batch) -> Pictures:
        """Pictures on the device and through the frozen encoder."""
        image = to_float(batch.image.to(self.device, non_blocking=True))
        with self.autocast():
            return Pictures(self.autoencoder.precompute(image), self._target(image))

    def loss(self, prepared: Pictures, draws: Draws) -> Terms:
        """The reconstruction loss as it is at the end of the run, and its terms."""
        return self._draw(prepared, draws, self.config.train.steps).terms

    def descend(self, micros: Sequence[Micro], step: int) -> Terms:
        """Gradients of the latent space's loss; with a discriminator, balanced as below.

        The two parts of the loss meet in the picture: each is differentiated down to the pixels, from there to the
        decoder's last layer, where their norms give the adversarial weight, and only the weighted sum goes through the
        decoder. The norms are those of the whole batch over all micro-batches and processes, so the weight depends on
        neither. With several micro-batches the pictures are drawn a second time rather than kept.
        """
        total = self._shares(micros[0], step)
        if self.adversary is None or step < self.adversary.config.start_steps:
            for micro in self.placement.accumulate(micros):
                with self.autocast():
                    terms = self._draw(micro.prepared, micro.draws, step).terms
                (terms["loss"] / len(micros)).backward()  # type: ignore[no-untyped-call]
                add_terms(total, terms, 1 / len(micros))
            return total
        sweeps = [self._sweep(micro, step, is_kept=len(micros) == 1) for micro in micros]
        parts = [(sweep.reconstruction, sweep.adversarial) for sweep in sweeps]
        layers = [torch.stack([slope.last_layer for slope in part]).mean(dim=0) for part in zip(*parts, strict=True)]
        distributed.average(layers)
        weight = self.adversary.balance(*layers)
        for micro, sweep in zip(self.placement.accumulate(micros), sweeps, strict=True):
            drawn = sweep.drawn or self._redraw(micro.prepared, micro.draws)
            drawn.backward(sweep.reconstruction.pixels + weight * sweep.adversarial.pixels, 1 / len(micros))
            add_terms(total, sweep.terms, 1 / len(micros))
        total["reconstruction"] = total["loss"]
        total["loss"] = total["loss"] + weight * total["adversarial"]
        return {**total, "adversarial_weight": weight.detach()}

    def descend_discriminator(self, micros: Sequence[Micro], step: int) -> Terms:
        """Gradients of the discriminator's loss on pictures and their noise-free reconstructions."""
        del step
        assert self.adversary is not None
        total: Terms = {}
        for number, micro in enumerate(self.placement.accumulate(micros)):
            with torch.no_grad(), self.autocast():
                fake = self.autoencoder.redraw(micro.prepared.start)[0].float()
            # Spectral norms move on once a step, at the first micro-batch, however many there are.
            self.adversary.discriminator.train(number == 0)
            with self.autocast():
                terms = self.adversary.tell(micro.prepared.target, fake, micro.draws)
            (terms["loss"] / len(micros)).backward()  # type: ignore[no-untyped-call]
            add_terms(total, terms, 1 / len(micros))
        self.adversary.discriminator.eval()
        return total

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """PSNR and SSIM of held-out pictures without noise, over all and per domain."""
        dataset, count = build_dataset(self.config.held_out), self.config.num_held_out
        found: dict[range, list[tuple[str, Tensor]]] = {}
        own = dealt(count, min(count, BATCH), self.placement.is_sharded)
        for positions, batch in Loader(dataset, BATCH).at(own):
            pictures = self.prepare(batch)
            redrawn = self.autoencoder.redraw(pictures.start)[0].float()
            rows = torch.stack([psnr(redrawn, pictures.target), ssim(redrawn.clamp(0, 1), pictures.target)], dim=1)
            found[positions] = list(zip(batch.domains, rows.cpu(), strict=True))
        values: dict[str, list[Tensor]] = {}
        for domain, row in chain(*collected(found)):
            values.setdefault(domain, []).append(row)
        means = {domain: torch.stack(rows).mean(dim=0) for domain, rows in values.items()}
        every = torch.stack([row for rows in values.values() for row in rows]).mean(dim=0)
        per_domain = {f"psnr/{domain}": float(mean[0]) for domain, mean in means.items()} if len(means) > 1 else {}
        return {"psnr": float(every[0]), "ssim": float(every[1]), **per_domain}

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Held-out pictures above their reconstructions."""
        pictures = self.prepare(next(self._batches(build_dataset(self.config.held_out), 8)))
        redrawn = self.autoencoder.redraw(pictures.start)[0].float()
        return image_grid(torch.cat([pictures.target, redrawn]), columns=8)

    def frozen(self) -> dict[str, nn.Module]:
        """The encoder of a representation autoencoder."""
        return {"encoder": self.autoencoder.encoder} if isinstance(self.autoencoder, RAE) else {}

    def complete(self) -> None:
        """Fit the latent statistics on the training pictures."""
        batches = self._batches(self.dataset, min(self.config.num_statistics, len(self.dataset)))
        self.autoencoder.fit_statistics(to_float(batch.image.to(self.device)) for batch in batches)

    def export(self, directory: Path) -> Path:
        """``autoencoder/``."""
        self.autoencoder.save(directory / "autoencoder")
        return directory / "autoencoder"

    @classmethod
    def describe(cls, config: Any, machine: Machine | None = None) -> list[tuple[str, str]]:
        del machine  # nothing told here depends on it
        return stage1_outline.describe(config, _kind(config).outline(config.autoencoder))

    @classmethod
    def parts(cls, config: Any) -> tuple[Part, ...]:
        return stage1_plan.parts(config, _kind(config).outline(config.autoencoder))

    def _redraw(self, pictures: Pictures, draws: Draws) -> Drawn:
        """The reconstruction from noised tokens, and the latent space's own terms."""
        with self.autocast():
            image, own = self.autoencoder.redraw(pictures.start, draws)
        return Drawn(image.float(), {}, self.reconstruction.own_terms(own))

    def _draw(self, pictures: Pictures, draws: Draws, step: int) -> Drawn:
        """The reconstruction with all its terms but the adversarial one."""
        drawn = self._redraw(pictures, draws)
        tokens = pictures.start if self._are_tokens_known else None
        return Drawn(drawn.image, self.reconstruction.terms(drawn.image, pictures.target, step, tokens), drawn.own)

    def _sweep(self, micro: Micro, step: int, is_kept: bool) -> Sweep:
        """Both parts of the loss, differentiated down to the pixels and to the last layer."""
        assert self.adversary is not None
        with self.autocast():
            drawn = self._draw(micro.prepared, micro.draws, step)
            adversarial = self.adversary.fool(drawn.image, micro.draws)
            reconstruction = torch.stack(list(drawn.compared.values())).sum()
        last_layer = self.autoencoder.last_layer
        slopes = [Slope.of(part, drawn.image, last_layer) for part in (reconstruction, adversarial)]
        terms = {name: value.detach() for name, value in {**drawn.terms, "adversarial": adversarial}.items()}
        return Sweep(drawn if is_kept else None, terms, slopes[0], slopes[1])

    def _shares(self, micro: Micro, step: int) -> Terms:
        """Each weighted term's share of the gradient norms at the last layer, every ``share_every_steps``."""
        if step % self.config.share_every_steps:
            return {}
        with self.autocast():
            drawn = self._draw(micro.prepared, micro.draws, step)
            terms = dict(drawn.compared)
            if self.adversary is not None and step >= self.adversary.config.start_steps:
                terms["adversarial"] = self.adversary.fool(drawn.image, micro.draws)
        last_layer = self.autoencoder.last_layer
        layers = {name: Slope.of(term, drawn.image, last_layer).last_layer for name, term in terms.items()}
        if self.adversary is not None and "adversarial" in layers:
            others = torch.stack([layer for name, layer in layers.items() if name != "adversarial"]).sum(dim=0)
            layers["adversarial"] = layers["adversarial"] * self.adversary.balance(others, layers["adversarial"])
        return shares(layers)

    def _target(self, image: Tensor) -> Tensor:
        """The picture at the decoder's output size, which may differ from the encoder's input (224 in, 256 out)."""
        if image.shape[-1] == self.autoencoder.output_size:
            return image
        size = (self.autoencoder.output_size, self.autoencoder.output_size)
        return F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)

    def _batches(self, dataset: Dataset, count: int) -> Iterator[Batch]:
        """The first ``count`` pictures of a data set."""
        return iter(Loader(dataset, min(count, BATCH), stop=count))


def _kind(config: Stage1.Config) -> type[Trainable]:
    """The class of a recipe's latent space, if it can be trained."""
    name = config.autoencoder.model_dump()["name"]
    kind = AUTOENCODERS[name]
    if not issubclass(kind, Trainable):
        raise UserError(f"autoencoder.name: {name!r} is frozen and has nothing to train; write rae or kl_vae")
    found: type[Trainable] = kind
    return found


def _trainable(config: Stage1.Config) -> Trainable:
    """The latent space of a recipe, with the weights of its frozen part."""
    _kind(config)
    built: Trainable = AUTOENCODERS.build(config.autoencoder)
    return built
