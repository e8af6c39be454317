"""How close reconstructions are, how good a set of pictures is, what a text recogniser reads in it.

A metric is a number per picture, or sums that merge, so that no result depends on the batch size. Two kinds of parts
are chosen by name: networks whose features a Fréchet distance compares, and readers of text.
"""

from raekit.registry import Registry

FEATURES = Registry(
    "features",
    {
        "inception": "raekit.metrics.inception:Inception",
        "tokens": "raekit.metrics.features:TokenMean",
    },
)
"""Networks from a picture to one vector."""

READERS = Registry(
    "readers",
    {
        "tesseract": "raekit.metrics.readers:Tesseract",
        "rapidocr": "raekit.metrics.readers:RapidOCR",
    },
)
"""Text recognisers, the one tried first above."""
