"""How a Scale-RAE checkpoint sees: the projector from an encoder's tokens into its language model.

In: tensors ``model.mm_projector.*``, the published ``config.json`` and the latent space that the model draws in. Out:
state and settings of our unified conditioner. The encoder itself is in no checkpoint: where the latent space is an RAE
it is that one, and beside a VAE it is the released encoder of the projector's width (Scale-RAE memo, sections 1.1, 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raekit.autoencoder.base import Autoencoder
from raekit.autoencoder.rae import RAE
from raekit.encoders import ENCODERS
from raekit.encoders.projector import NUM_LAYERS
from raekit.errors import UserError
from raekit.interop.ledger import Ledger
from raekit.interop.scale_rae import ENCODERS_OF

PROJECTOR = "model.mm_projector"
DEFAULT_KIND, NUM_TOKENS = "mlp2x_gelu", 256
"""Kind of the projector and tokens of a picture in every released model."""


@dataclass(frozen=True)
class Sight:
    """What a model sees with.

    Attributes:
        state: of the conditioner, ``projector.*``.
        settings: of the conditioner: ``projector``, ``vision_shape`` and, beside a VAE, ``tower``.
    """

    state: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    @property
    def note(self) -> str:
        """For the report."""
        tokens, channels = self.settings["vision_shape"]
        through = "its latent space's encoder" if "tower" not in self.settings else self.settings["tower"].name
        return f"{self.settings['projector']} of {tokens} tokens x {channels}, through {through}"


def take_sight(ledger: Ledger, settings: Mapping[str, Any], latent_space: Autoencoder) -> Sight | None:
    """The projector, whose keys count as loaded; None if the checkpoint has none.

    Raises:
        UserError: keys are missing, or the projector belongs to no encoder that is known.
    """
    if not any(key.startswith(f"{PROJECTOR}.") for key in ledger.tensors):
        return None
    kind = settings.get("mm_projector_type", DEFAULT_KIND)
    if kind not in NUM_LAYERS:
        raise UserError(f"{ledger.source}: mm_projector_type is {kind!r}; only {', '.join(NUM_LAYERS)} are supported")
    # Linear layers stand at even places, with a GELU between two; one alone is in no sequence.
    places = [""] if kind == "linear" else [f".{2 * number}" for number in range(NUM_LAYERS[kind])]
    names = {
        f"projector{place or '.0'}.{part}": f"{PROJECTOR}{place}.{part}"
        for place in places
        for part in ("weight", "bias")
    }
    tensors = ledger.take(names.values())
    state = {ours: tensors[theirs].float() for ours, theirs in names.items()}
    width = state["projector.0.weight"].shape[1]
    if isinstance(latent_space, RAE):
        channels, height, columns = latent_space.shape
        if channels != width:
            raise UserError(
                f"{ledger.source}: it sees tokens of {width} channels, its latent space has {channels}; name its own "
                "with --autoencoder"
            )
        return Sight(state, {"projector": kind, "vision_shape": (height * columns, width)})
    if width not in ENCODERS_OF:
        known = ", ".join(map(str, ENCODERS_OF))
        raise UserError(f"{ledger.source}: it sees tokens of {width} channels; the released encoders have {known}")
    tower = ENCODERS[ENCODERS_OF[width]["name"]].Config.model_validate(ENCODERS_OF[width])
    tokens = (settings.get("vision_tower_aux_token_len_list") or [NUM_TOKENS])[0]
    return Sight(state, {"projector": kind, "vision_shape": (tokens, width), "tower": tower})
