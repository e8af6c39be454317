"""raekit: train and run image generators in the latent space of Representation Autoencoders.

The front door. Four classes and one function are all that using a model takes; each is imported on first use, so that
``import raekit`` is instant::

    import raekit

    model = raekit.load()                                # the bundled nano model
    image = model("a red apple", seed=7)[0]              # a PIL image
    other = model("a green apple", image=image)[0]       # a variation of it
    latent = raekit.RAE.load("runs/rae").encode(pixels)  # the latent space by itself
    answers = raekit.Understander.load("runs/unified").answer(image, "what is this?")  # a unified model can be asked
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raekit.autoencoder.rae import RAE
    from raekit.device import Precision
    from raekit.generate import ClassToImage, TextToImage
    from raekit.understand import Understander

__version__ = "0.1.0"
__all__ = ["RAE", "ClassToImage", "TextToImage", "Understander", "__version__", "load"]

_HOMES = {
    "RAE": "raekit.autoencoder.rae",
    "TextToImage": "raekit.generate",
    "ClassToImage": "raekit.generate",
    "Understander": "raekit.understand",
}


def load(
    model: str | Path | None = None,
    device: str = "auto",
    revision: str | None = None,
    precision: Precision = "auto",
) -> TextToImage | ClassToImage:
    """A generator, ready to draw.

    Args:
        model: a directory (a generator's, or a whole model's that holds ``generator/``), or the id of a repository of
            the Hugging Face hub; by default the nano model that ships with the package.
        device: ``auto`` (CUDA when there is one), ``cpu``, ``cuda`` ...
        revision: branch, tag or commit of a hub repository.
        precision: arithmetic of matrix products; ``auto`` is bf16 where the hardware is faster with it.

    Raises:
        UserError: no generator there, or the hub cannot be reached; the sentence names the place and the fix.
    """
    from raekit.generate import load_generator

    return load_generator(model, device=device, precision=precision, revision=revision)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'raekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
