"""A backbone read as a velocity: the arithmetic it runs in, what it predicts, and what it is guided by.

In: a backbone, a transport, conditions. Out: functions ``(z_t, t) -> velocity`` for a sampler. It stands between the
network, which knows nothing of sampling, and the sampler, which knows nothing of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raekit.backbones.base import Backbone
from raekit.conditioning.base import Cond
from raekit.device import Precision, autocast
from raekit.samplers.guidance import Guided, guide
from raekit.samplers.ode import VelocityFn
from raekit.samplers.settings import Sampling
from raekit.transport.objective import FlowMatching


class Denoiser:
    """A backbone as velocity functions.

    Args:
        backbone: the network.
        transport: what its output means.
        device: where it runs.
        precision: arithmetic of its matrix products.
    """

    def __init__(
        self, backbone: Backbone, transport: FlowMatching, device: torch.device, precision: Precision = "auto"
    ) -> None:
        self.backbone, self.transport, self.device, self.precision = backbone, transport, device, precision

    def alone(self, cond: Cond) -> VelocityFn:
        """The velocity under a condition, unguided."""
        velocity = self.transport.velocity_of(self._output)
        return lambda z_t, t: velocity(z_t, t, cond)

    def guided(
        self, cond: Cond, null_cond: Cond | None, settings: Sampling, weak_velocity: VelocityFn | None = None
    ) -> VelocityFn:
        """The velocity under a condition, guided as the settings say.

        Args:
            cond: condition of ``B`` samples.
            null_cond: what classifier-free guidance moves away from: the null, or a negative prompt; None if the model
                never learned one.
            settings: kind, scale and interval of the guidance.
            weak_velocity: a weaker model under its own condition, for auto guidance.

        Raises:
            UserError: the model has not what this guidance needs.
        """
        velocities = None if self.backbone.early is None else self.transport.velocities_of(self._outputs)
        velocity = self.transport.velocity_of(self._output)
        return guide(Guided(velocity, cond, null_cond, velocities, weak_velocity), settings)

    def _output(self, z_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        with autocast(self.precision, self.device):
            output: Tensor = self.backbone(z_t, t, cond)
        return output

    def _outputs(self, z_t: Tensor, t: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        with autocast(self.precision, self.device):
            return self.backbone.with_early(z_t, t, cond)
