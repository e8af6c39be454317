"""How good decoders are on latents that a generator made, which are not those they were trained on.

In: a generator, decoders of its latent space, real pictures with captions or labels. Out: a report with a column for
each decoder: Fréchet distances to the real pictures, sharpness, words read where the prompts quote some, and a sheet
with a row for each decoder. Decoders that reconstruct equally well can differ here, and only here (RAE, section 4.3:
noise in stage 1 is for this).

**The same latents for all.** Each prompt is drawn once, from a seed of its own: the k-th picture from ``seed + k``. A
decoder trained apart from the generator's latent space has statistics of its own, which only scale what an encoder
gave; the generator's latents are on the scale of the generator's. So they are brought back to the encoder's tokens by
the generator's statistics, and the decoder gets those tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.autoencoder.latent import to_tokens
from raekit.autoencoder.rae import RAE
from raekit.cost import Stopwatch, count_flops
from raekit.errors import UserError
from raekit.evaluate.figures import Instruments, Ledger, Sight
from raekit.evaluate.pictures import Page, Pictures
from raekit.evaluate.reconstruction import (
    GIGA,
    Progress,
    exact_convolutions,
    fitted,
    picture_notes,
    settings_of,
)
from raekit.evaluate.report import Column, Cost, Report, distance_notes
from raekit.generate import ClassToImage, ImageGenerator
from raekit.image_grid import enlargement, image_grid

NUM_SHOWN = 8
"""Pictures in a row of the sheet."""

REAL = "real pictures"

Decode = Callable[[Tensor], Tensor]
"""From a generator's latent ``[B,C,h,w]`` to an image ``[B,3,S,S]``."""


@torch.no_grad()
def evaluate_generation(
    generator: ImageGenerator,
    decoders: Mapping[str, Autoencoder],
    pictures: Pictures,
    instruments: Instruments | None = None,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Draw a latent for each picture's caption (or label), and measure what each decoder makes of it.

    Args:
        generator: draws the latents.
        decoders: by name; on the generator's device.
        pictures: prompts, and the real pictures that distances are taken to.
        instruments: what to measure with; sharpness needs none.
        seed: of the first picture.
        sampling: steps, guidance and so on where they differ from the generator's own.
        progress: see :data:`~raekit.evaluate.reconstruction.Progress`.

    Raises:
        UserError: a decoder of another latent space, or pictures without what the generator takes as prompts.
    """
    instruments = instruments or Instruments()
    space: Autoencoder = generator.latent_space
    benches = [_Bench(name, other, decode_in(space, other, name)) for name, other in decoders.items()]

    def look(page: Page) -> list[_Judged]:
        latents = draw(generator, prompts_of(generator, page), seed + page.first, sampling or {}).to(space.device)
        seen: dict[int, Sight] = {}
        return [bench.judge(page, latents, instruments, seen) for bench in benches]

    done = 0
    with exact_convolutions():
        for judged in pictures.each(look, with_texts=instruments.reader is not None):
            for bench, found in zip(benches, judged, strict=True):
                bench.add(found)
            done += len(judged[0].domains) if judged else 0
            if progress is not None:
                progress(done)
        columns = [bench.column(torch.zeros(1, *space.shape, device=space.device)) for bench in benches]
    notes = [*picture_notes(pictures, instruments), *dict.fromkeys(n for c in columns for n in distance_notes(c))]
    settings = {
        **settings_of(pictures, instruments, space.device),
        "generator": generator.checksum,
        "seed": seed,
        "sampling": generator.sampling(**(sampling or {})).model_dump(mode="json"),
    }
    return Report("Decoders on generated latents", settings, columns, notes, {"one row a decoder": _sheet(benches)})


def decode_in(space: Autoencoder, other: Autoencoder, name: str) -> Decode:
    """How ``other`` decodes latents of ``space``: through the tokens of the encoder that both share.

    Args:
        space: the latent space that the latents are in.
        other: the latent space whose decoder is asked for.
        name: of ``other``, for errors.

    Raises:
        UserError: the latents mean something else to ``other``; both are named.
    """
    if other is space or (other.checksum and other.checksum == space.checksum):
        return other.decode
    # An encoder that is trained together with its decoder, as a VAE's, makes latents for no other decoder.
    if not (isinstance(space, RAE) and isinstance(other, RAE)) or _identity(space) != _identity(other):
        raise UserError(
            f"decoder {name!r} belongs to {_described(other)}, the generator's latents to {_described(space)}; "
            "give decoders that were trained on the generator's encoder"
        )
    statistics, decode_tokens = space.statistics, other.decode_tokens
    return lambda latent: decode_tokens(to_tokens(statistics.denormalise(latent)))


def prompts_of(generator: ImageGenerator, page: Page) -> list[Any]:
    """What the generator is told for each picture of a page: its caption, or its label.

    Raises:
        UserError: pictures without captions, or without labels.
    """
    is_labelled = isinstance(generator, ClassToImage)
    prompts: list[Any] = page.labels if is_labelled else page.captions
    if any(prompt in ("", -1) for prompt in prompts):
        missing = "class labels" if is_labelled else "captions"
        raise UserError(f"data: some pictures have no {missing}, and this generator takes {generator.prompt_kind}")
    return prompts


def draw(generator: ImageGenerator, prompts: list[Any], seed: int, sampling: Mapping[str, Any]) -> Tensor:
    """Latents ``[B,C,h,w]``, one a prompt, the k-th from ``seed + k``."""
    seeds = range(seed, seed + len(prompts))
    return generator.sample(prompts, prompt_seeds=seeds, batch_size=len(prompts), **sampling)


@dataclass(frozen=True)
class _Judged:
    """What was seen of a page and of what a decoder made of it."""

    domains: list[str]
    texts: list[str]
    real: Sight
    made: Sight
    shown: list[tuple[Tensor, Tensor, str]]
    """Real picture, made picture and caption of the first few."""


@dataclass
class _Bench:
    """One decoder under test."""

    name: str
    autoencoder: Autoencoder
    decode: Decode

    def __post_init__(self) -> None:
        self.ledger, self.clock = Ledger(), Stopwatch(self.autoencoder.device)
        self.shown: list[Tensor] = []
        self.real: list[Tensor] = []
        self.captions: list[str] = []

    def judge(self, page: Page, latents: Tensor, instruments: Instruments, seen: dict[int, Sight]) -> _Judged:
        """Decode a page's latents; ``seen`` keeps what was seen of the real pictures, by their size."""
        with self.clock.lap(len(latents)):
            output = self.decode(latents)
        made = instruments.as_shown(output)
        real = fitted(page, self.autoencoder)
        if real.shape[-1] not in seen:
            seen[real.shape[-1]] = instruments.look(real, page.texts)
        room = max(0, NUM_SHOWN - page.first)
        shown = list(zip(real[:room].cpu(), made[:room].cpu(), page.captions[:room], strict=True))
        sight = instruments.look(made, page.texts)
        return _Judged(page.domains, page.texts, seen[real.shape[-1]], sight, shown)

    def add(self, found: _Judged) -> None:
        """Count what was seen of the next page."""
        real, made = (sight.to(self.autoencoder.device) for sight in (found.real, found.made))
        self.ledger.add(found.domains, found.texts, real, made, {})
        for real_picture, made_picture, caption in found.shown:
            self.real.append(real_picture)
            self.shown.append(made_picture)
            self.captions.append(caption)

    def column(self, latent: Tensor) -> Column:
        """What was found; the cost is counted on ``latent``."""
        gflops = count_flops(lambda: self.decode(latent), latent.device) / GIGA
        facts = {"checksum": self.autoencoder.checksum, "pixels": self.autoencoder.output_size}
        cost = Cost(self.clock.images_per_second, gflops)
        return Column(self.name, facts, self.ledger.overall(), self.ledger.domains(), cost)


def _identity(space: RAE) -> dict[str, Any]:
    """What a latent means before it is normalised: its grid, and every setting of the encoder that changes tokens."""
    encoder = space.encoder
    return {
        "latent": space.shape,
        "weights": encoder.fingerprint()["sha256"],
        "input_size": encoder.input_size,
        "resize": encoder.config.resize,
        "norm": encoder.config.norm,
        "layers": encoder.layers,
        # One layer alone is the same by any rule.
        "merge": encoder.config.merge if len(encoder.layers) > 1 else "",
    }


def _described(space: Autoencoder) -> str:
    grid = " x ".join(map(str, space.shape))
    if not isinstance(space, RAE):
        return f"a latent space with an encoder of its own ({grid}, checksum {space.checksum[:12]})"
    encoder, found = space.encoder, space.encoder.fingerprint()
    layers = f"layers {list(encoder.layers)} by {encoder.config.merge}"
    return (
        f"encoder {found['name']} {found['source']} ({grid}, weights {str(found['sha256'])[:12]}, "
        f"{encoder.input_size} px, resize {encoder.config.resize}, norm {encoder.config.norm}, {layers})"
    )


def _sheet(benches: list[_Bench]) -> Image.Image:
    """The real pictures in the first row, then a row a decoder, its name below."""
    size = max(bench.autoencoder.output_size for bench in benches)
    rows = [(REAL, benches[0].real), *((bench.name, bench.shown) for bench in benches)]
    pictures = [_enlarged(picture, size) for _, row in rows for picture in row]
    captions = [title for title, row in rows for _ in row]
    return image_grid(torch.stack(pictures), len(benches[0].real), captions, enlargement(size))


def _enlarged(picture: Tensor, size: int) -> Tensor:
    """``[3,size,size]``: decoders of one sheet may differ in size."""
    if picture.shape[-1] == size:
        return picture
    resized: Tensor = torch.nn.functional.interpolate(picture[None], (size, size), mode="nearest")[0]
    return resized
