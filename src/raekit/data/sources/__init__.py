"""Builders of real data sets: each fetches pictures that anyone may fetch and writes them as shards.

No picture is part of this package. A builder pins versions, keeps to the licence level asked for, drops what is blank
or doubled, and writes ``ATTRIBUTION.md`` beside the shards.
"""

from raekit.registry import Registry

PREPARERS = Registry(
    "preparers",
    {
        "emoji": "raekit.data.sources.emoji:Emoji",
        "openclipart": "raekit.data.sources.openclipart:OpenClipArt",
        "photos": "raekit.data.sources.photos:Photos",
        "scenes": "raekit.data.sources.made:MadeScenes",
        "rendered_text": "raekit.data.sources.made:MadeText",
    },
)
