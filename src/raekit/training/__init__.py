"""Training: one loop, and what each stage adds to it.

``stage`` in a recipe names a row of :data:`STAGES`; the loop in ``loop.py`` does everything that stages share.
"""

from raekit.registry import Registry

STAGES = Registry(
    "stages",
    {
        "encoder": "raekit.training.encoder:EncoderStage",
        "stage1": "raekit.training.stage1:Stage1",
        "stage2": "raekit.training.stage2:Stage2",
        "unified": "raekit.training.unified:Unified",
    },
)
