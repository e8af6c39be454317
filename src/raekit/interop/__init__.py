"""Weights of other systems: key maps from their layouts to ours and back, bit for bit.

In: files as their authors publish them. Out: our artefacts, with every key accounted for; and back. Foreign names live
here and nowhere else, and only here is ``torch.load`` used, with ``weights_only=True``.
"""

from __future__ import annotations

from raekit.registry import Registry

FORMATS = Registry(
    "formats",
    {
        "diffusers": "raekit.interop.diffusers:DiffusersRAE",
        "diffusers_pipeline": "raekit.interop.diffusers_pipeline:DiffusersPipeline",
        "diffusers_vae": "raekit.interop.diffusers_vae:DiffusersVAE",
        "rae": "raekit.interop.rae:RAECollection",
        "scale_rae": "raekit.interop.scale_rae:ScaleRAEDecoder",
        "raev2": "raekit.interop.raev2:RAEv2Decoder",
        "scale_rae_model": "raekit.interop.scale_rae_model:ScaleRAEModel",
        "dit": "raekit.interop.generator:PublishedGenerator",
        "vgg16": "raekit.interop.loss_networks:VGG16",
        "lpips": "raekit.interop.loss_networks:LPIPSHeads",
        "dino": "raekit.interop.loss_networks:DINOBackbone",
        "inception": "raekit.interop.inception:InceptionV3",
    },
)
"""Layouts that ``raekit convert`` reads and writes. The first that recognises a path is the one it has; the first that
can hold an artefact of ours is the one it is written in; ``--format`` overrides either."""
