"""Studies: findings of the papers, re-run at small scale with whatever model is at hand.

In: a model and data. Out: a table and a plot of ours, with the paper's numbers beside. A study can be interrupted: what
it has drawn and measured stays in its directory, and the next run goes on from there.
"""

from raekit.registry import Registry

STUDIES = Registry(
    "studies",
    {
        "tts": "raekit.studies.tts:BestOfN",
        "guidance": "raekit.studies.guidance:GuidanceSweep",
        "precision": "raekit.studies.precision:PrecisionCurves",
    },
)
