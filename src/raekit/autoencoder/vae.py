"""The VAEs of others, FLUX.1's and SDXL's, as latent spaces: the baseline that RAE is measured against.

In: image ``[B,3,H,W]`` in [0,1]. Out: latent ``[B,64,16,16]`` (FLUX, 256 px) or ``[B,16,16,16]`` (SDXL) and back: the
VAE's own latents, shifted and scaled as published, 2 x 2 of them to a token, so that a generator sees as many tokens as
in an RAE's latent space (Scale-RAE, section 4). Nothing is trained, and the artefact names the weights by their
digest instead of storing them. The network itself is diffusers' ``AutoencoderKL`` (``pip install 'raekit[vae]'``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from raekit.autoencoder import artefact
from raekit.autoencoder.latent import LatentStatistics
from raekit.autoencoder.variational import Posterior, Variational, VariationalConfig, stored_statistics
from raekit.config import validate
from raekit.encoders.source import HUB_ID, weights_sha256
from raekit.errors import UserError


class Place(NamedTuple):
    """Where published weights lie."""

    source: str
    subfolder: str | None


PUBLISHED = {
    "flux": Place("black-forest-labs/FLUX.1-dev", "vae"),
    "sdxl": Place("stabilityai/stable-diffusion-xl-base-1.0", "vae"),
}
"""By the names that a recipe gives them. FLUX.1-dev asks for its licence to be accepted on the hub."""


class VAE(Variational):
    """FLUX.1 or SDXL VAE, frozen.

    Args:
        config: which one, and how it is used.
        network: an ``AutoencoderKL`` that is already loaded; loaded as the config says otherwise.
        statistics: in place of the published shift and scale.
    """

    class Config(VariationalConfig):
        """A published VAE as a recipe states it."""

        name: Literal["vae"] = "vae"
        model: str = "flux"
        """``flux``, ``sdxl``, or a directory or hub id in the diffusers layout."""
        subfolder: str | None = None
        """Folder of the VAE inside ``model``; known for ``flux`` and ``sdxl``."""
        revision: str | None = None
        """Commit of the hub repository; none: its main branch."""
        precision: Literal["fp32", "bf16"] = "fp32"
        """Of the network: bf16 is half the memory, and bf16 arithmetic throughout; fp32 leaves the arithmetic to
        the surrounding autocast. Latents and images are fp32 either way."""

        @property
        def place(self) -> Place:
            """Where the weights lie."""
            place = PUBLISHED.get(self.model, Place(self.model, None))
            return Place(place.source, self.subfolder or place.subfolder)

    def __init__(self, config: Config, *, network: Any = None, statistics: LatentStatistics | None = None) -> None:
        revision = config.revision
        if network is None:
            network, revision = load_network(config)
        settings = network.config
        # Whoever stores these settings then names the very commit, not a branch that may move on.
        config = config.model_copy(update={"revision": revision})
        cell = 2 ** (len(settings.block_out_channels) - 1)
        super().__init__(config, settings.latent_channels, cell, statistics or published_statistics(config, settings))
        self.sha256 = weights_sha256(network)
        # Module's own `to`: that of diffusers warns of modules to keep in float32, of which this network has none.
        self.network = nn.Module.to(network, torch.bfloat16 if config.precision == "bf16" else torch.float32)
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def posterior(self, image: Tensor) -> Posterior:
        """Of images ``[B,3,S,S]`` in [0,1], without gradients."""
        found = self.network.encode((2 * image - 1).to(self.network.dtype)).latent_dist
        return Posterior(found.mean.float(), found.logvar.float())

    def draw(self, cells: Tensor) -> Tensor:
        """Images ``[B,3,S,S]`` of the VAE's own latents ``[B,c,S/f,S/f]``; gradients reach the latents."""
        pixels: Tensor = self.network.decode(cells.to(self.network.dtype)).sample
        return (pixels.float() + 1) / 2

    def weights(self) -> dict[str, Tensor]:
        """None: the network is somebody else's, and frozen."""
        return {}

    def train(self, mode: bool = True) -> VAE:
        """Stays in eval mode: it is frozen."""
        return super().train(False)

    @classmethod
    def load(cls, directory: Path, device: str | torch.device = "cpu", network: Any = None) -> VAE:
        """The latent space of an artefact.

        Args:
            directory: what :meth:`save` wrote.
            device: where to put it.
            network: an ``AutoencoderKL`` that is already loaded, if the stored place of its weights is not valid here.

        Raises:
            UserError: a damaged artefact, or a VAE other than the one it was made with.
        """
        identity, tensors = artefact.read(Path(directory))
        settings = validate(cls.Config, identity["config"], f"autoencoder {str(directory)!r}")
        model = cls(settings, network=network, statistics=stored_statistics(identity, tensors))
        _check_network(identity["network"], model.fingerprint(), directory)
        model.checksum = identity["checksum"]
        return model.to(device)

    def fingerprint(self) -> dict[str, str | None]:
        """What identifies the network in an artefact: where it came from, and a digest of its weights."""
        return {**self.config.place._asdict(), "revision": self.config.revision, "sha256": self.sha256}

    def _identity(self, dtype: torch.dtype) -> dict[str, Any]:
        return {**super()._identity(dtype), "network": self.fingerprint()}


def load_network(config: VAE.Config) -> tuple[Any, str | None]:
    """The ``AutoencoderKL`` that the settings name, in float32, and the commit it came from (None: a directory).

    Raises:
        UserError: diffusers is not installed, nothing there, another kind of model, or weights that do not fit it.
    """
    kl = _autoencoder_kl()
    source, subfolder = config.place
    local = Path(source).expanduser()
    if local.is_dir():
        # Joined here: diffusers would look into `local` itself where there is no such subfolder.
        source, subfolder = str(local / (subfolder or "")), None
    elif not HUB_ID.fullmatch(source):
        raise UserError(f"autoencoder.model: no directory {source!r}; write flux, sdxl, a directory or a hub id")
    try:
        settings, commit = kl.load_config(
            source, subfolder=subfolder, revision=config.revision, return_commit_hash=True
        )
        revision = commit or config.revision
        if (found := settings.get("_class_name")) != "AutoencoderKL":
            raise UserError(
                f"autoencoder.model: {source!r} holds {found}, not AutoencoderKL; name another, or a subfolder"
            )
        options = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False, "output_loading_info": True}
        network, info = kl.from_pretrained(source, subfolder=subfolder, revision=revision, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(_unusable(config.place, error)) from None
    if wrong := sorted(map(str, [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]])):
        raise UserError(
            f"autoencoder.model: the weights of {source!r} do not fit AutoencoderKL ({len(wrong)} keys, such as "
            f"{wrong[0]}); copy it again"
        )
    return network, revision


def published_statistics(config: VAE.Config, settings: Any) -> LatentStatistics:
    """The shift and scale that the VAE was published with, as statistics: ``(z - shift) scale``.

    Args:
        config: how many cells make a token.
        settings: of the ``AutoencoderKL``; some give a mean and a deviation for each channel besides.
    """
    channels = settings.latent_channels
    mean = torch.tensor(settings.latents_mean or [settings.shift_factor or 0.0] * channels)
    std = torch.tensor(settings.latents_std or [1.0] * channels) / settings.scaling_factor
    cells = config.patch_size**2
    mean, var = (value.repeat_interleave(cells).view(-1, 1, 1) for value in (mean, std.square()))
    return LatentStatistics(mean, var, eps=0.0)


def _check_network(stored: Mapping[str, Any], found: Mapping[str, Any], directory: Path) -> None:
    """Raise a :class:`UserError` that names both VAEs if their weights differ."""
    if stored["sha256"] == found["sha256"]:
        return

    def describe(network: Mapping[str, Any]) -> str:
        source = "@".join(filter(None, (network["source"], network["revision"])))
        return f"{source} (sha256 {network['sha256'][:12]})"

    raise UserError(
        f"autoencoder {str(directory)!r}: made with the VAE {describe(stored)}, found {describe(found)}; "
        "give the VAE it was made with"
    )


def _autoencoder_kl() -> Any:
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise UserError("autoencoder.name: vae needs diffusers; install it with `pip install 'raekit[vae]'`") from None
    return AutoencoderKL


def _unusable(place: Place, error: Exception) -> str:
    reason = " ".join(str(error).split(". ")[0].split())
    shown = repr(place.source) + (f", folder {place.subfolder!r}," if place.subfolder else "")
    if Path(place.source).expanduser().is_dir():
        return f"autoencoder.model: {shown} holds no usable VAE ({reason}); give one saved by save_pretrained"
    return f"autoencoder.model: cannot get {shown} ({reason}); connect to the hub, or give a local directory"
