"""A few hundred plain English words to draw, and which of them are held out.

In: nothing. Out: :data:`WORDS`. A list of our own, so that nothing offensive can turn up in a picture, as it does when
words are drawn from a dictionary.
"""

from __future__ import annotations

import hashlib

WORDS = tuple(
    """
    above acorn after again album alarm amber angle apple april arrow artist aspen atlas autumn bacon badge
    baker balloon bamboo banana banner barley basil basket beach beacon beaver bench berry birch bird biscuit
    blanket blossom blue boat bonus bottle bounce bowl branch brave bread breeze brick bridge bright bronze
    brook brother brown brush bubble bucket buffet button butter cabin cactus cake calm camera camp canal
    candle canyon card cargo carpet carrot castle cedar cello chair chalk cherry chess chime cider circle
    citrus city clay cliff clock cloud clover coast cobalt cocoa coffee comet compass copper coral corner
    cotton cousin crane crayon cream creek crew cricket crown crystal cube curtain daily daisy dance dawn
    delta denim desert diner dinner dolphin domino door dove dragon drum duck dune eagle early earth east easy
    echo elbow elm ember engine enter evening exit fabric falcon family farm fast feather fern ferry festival
    fiddle field fig film finch fire fish flag flame flower flute fog forest fossil fountain fox free fresh
    friday friend frost fruit gallery garage garden garlic gate gentle giant ginger glacier glass globe glove
    gold good grain grape grass gravel green grey guide guitar hammer happy harbour harvest hazel hello hill
    hobby holly honey horizon horse hotel house ice idea igloo indigo ink iris island ivory ivy jacket jasmine
    jazz jelly jewel jigsaw journey juice july jungle june keeper kettle kitchen kite kiwi ladder lagoon lake
    lamp lantern laurel lava leaf lemon letter library light lilac lily lime linen lion little lobby local
    lotus lucky lunch lunar magic magnet mango maple marble march market meadow medal melody melon member mill
    mint mirror monday moon morning moss mountain museum music nectar needle nest night noble noon north novel
    number nutmeg oak oasis ocean olive onion opal open opera orange orbit orchard origin otter oven owl
    oxygen paddle palace palm panda paper parade park parrot pasta patch path peach pear pearl pebble pencil
    pepper piano picnic pillow pilot pine pink planet plaza plum pocket poem polar pond poppy postal potato
    prairie purple puzzle quartz queen quick quiet quilt rabbit radio rain ramp raven recipe reef ribbon ridge
    ripple river road robin rocket root rose royal ruby saddle sail salad salmon salt sand saturn school
    season second sesame shadow shell shore signal silk silver simple sister sketch sky slope smile snow soap
    soft song soup south spark spice spiral spring spruce square stairs star station stone store storm story
    stove straw stream street studio sugar summer sunday sunset swan sweet table tango tea temple tennis thank
    theatre thunder tiger timber toast today tomato topaz tower town track trail train travel tree tulip
    tunnel turtle twin umbrella union valley vanilla velvet violet violin vista vivid voyage waffle walnut
    water wave welcome west wheat wheel whisper white wide willow wind window winter wolf wonder wood yarn
    yellow young zebra zenith zigzag
    """.split()
)


def is_held_out(key: str, share: float = 0.1) -> bool:
    """Whether a word, a font or a pair of things is kept for testing: by MD5, so it never depends on an order.

    Args:
        key: what is asked about.
        share: portion held out, in [0, 1].
    """
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(), 16) % 1000 < round(1000 * share)
