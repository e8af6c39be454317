"""Which files of Debian's wallpaper packages are photographs, who took them, and what they show.

In: nothing. Out: :data:`PHOTOS`, chosen and described by eye; the other files of these packages are renderings and
patterns. Author and licence as each package's ``copyright`` or ``metadata.json`` states them.
"""

from __future__ import annotations

from dataclasses import dataclass

LOMIRI_16, LOMIRI_20 = "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04"
MATE, PLASMA = "mate-backgrounds", "plasma-workspace-wallpapers"
PACKAGES = (LOMIRI_16, LOMIRI_20, MATE, PLASMA)

_FOLDERS = {
    LOMIRI_16: "usr/share/backgrounds",
    LOMIRI_20: "usr/share/backgrounds",
    MATE: "usr/share/backgrounds/mate/nature",
    PLASMA: "usr/share/wallpapers",
}


@dataclass(frozen=True)
class Photo:
    """One photograph: its package, its file there, author, licence, and what it shows."""

    package: str
    file: str
    author: str
    licence: str
    shows: str

    @property
    def folder(self) -> str:
        """Where the package puts it."""
        return _FOLDERS[self.package]


def _plasma(name: str, author: str, shows: str) -> Photo:
    return Photo(PLASMA, f"{name}/contents/images/2560x1600.jpg", author, "LGPL-3.0", shows)


def _mate(file: str, author: str, shows: str) -> Photo:
    return Photo(MATE, file, author, "GPL-2.0-or-later", shows)


def _lomiri(file: str, author: str, licence: str, shows: str) -> Photo:
    return Photo(LOMIRI_16, file, author, licence, shows)


PHOTOS: tuple[Photo, ...] = (
    _lomiri("Bridge_by_Sander_Klootwijk.jpg", "Sander Klootwijk", "CC-BY-SA-4.0", "bridge cables over a flat shore"),
    _lomiri("Dragonfly_by_Bolly.jpg", "Bolly", "CC-BY-SA-4.0", "a dragonfly on a bush with green leaves"),
    _lomiri("Picture_0B_by_freespace.jpg", "Trevor Freespace", "CC-BY-4.0", "half a fig in a red bowl"),
    _lomiri("Picture_1A_by_freespace.jpg", "Trevor Freespace", "CC-BY-4.0", "paint brushes with bright bristles"),
    _lomiri("Wine_by_Jakkub_Mede.jpg", "Jakub Mede", "CC-BY-4.0", "a clay wine jar in a tavern"),
    _lomiri(
        "aitzgorri_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0", "a meadow below mountains in autumn"
    ),
    _lomiri("free_by_Peter_Nerlich.jpg", "Peter Nerlich", "CC-BY-SA-4.0", "a toy bird hanging under round lamps"),
    _lomiri(
        "friends_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0", "two dogs looking out of a wooden house"
    ),
    _lomiri("greentock_by_Peter_Nerlich.jpg", "Peter Nerlich", "CC-BY-SA-4.0", "a grey clock face with yellow marks"),
    _lomiri("life_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0", "a stream over rocks in a forest"),
    _lomiri("picosdeeuropa_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0", "a path up to snowy peaks"),
    _lomiri(
        "seeding_by_Clements_Engelhardt.jpg", "Clemens Engelhardt", "CC0-1.0", "dandelion clocks in a meadow at sunset"
    ),
    _lomiri("sunset_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0", "the sun setting behind mountains"),
    Photo(LOMIRI_20, "Kleiber_by_Lukas_Baubkus.jpg", "Lukas Baubkus", "CC-BY-SA-3.0", "a nuthatch on a tree trunk"),
    _mate("Aqua.jpg", "Charles Barbin", "a drop falling into water"),
    _mate("Blinds.jpg", "Lennart Poettering, Andrea Cimitan", "the ribs of a green leaf"),
    _mate("Dune.jpg", "Marco Cogoni, Hylke Bons", "dry grass on a dune by the sea"),
    _mate("FreshFlower.jpg", "Jens Ansorg", "an orange flower close up"),
    _mate("Garden.jpg", "Charles Barbin", "a red and yellow marigold"),
    _mate("GreenMeadow.jpg", "Timothy Schellhase, Lapo Calamandrei", "green blades of grass"),
    _mate("LadyBird.jpg", "Charles Barbin", "a ladybird on a stem among blue flowers"),
    _mate("RainDrops.jpg", "blackcombwhistler07", "rain drops on green leaves"),
    _mate("Storm.jpg", "Sergey Nazarov", "a storm sky over a road"),
    _mate("TwoWings.jpg", "Charles Barbin, Hylke Bons", "two dandelion seeds before orange flowers"),
    _mate("Wood.jpg", "Jean-François Fortin Tam", "pale wooden boards"),
    _mate("YellowFlower.jpg", "Charles Barbin", "a yellow flower on black"),
    _plasma("BytheWater", "Maciej Wiklo", "a wooden jetty by the water"),
    _plasma("ColdRipple", "Risto Saukonpää", "a jetty in fog in black and white"),
    _plasma("ColorfulCups", "Dmitri Popov", "rows of pink and blue cups"),
    _plasma("DarkestHour", "Risto Saukonpää", "a dark lake in blue fog"),
    _plasma("EveningGlow", "Ian Hex", "rowing boats on the shore of a lake at sunset"),
    _plasma("FallenLeaf", "Martin Klapetek", "a maple leaf on the ground in autumn"),
    _plasma("Grey", "Sigi Sagi", "a curved facade in black and white"),
    _plasma("Kite", "Risto Saukonpää", "a kite in a blue sky"),
    _plasma("OneStandsOut", "Risto Saukonpää", "dark green moss seen from above"),
    _plasma("Path", "Risto Saukonpää", "a path through a dark forest"),
    _plasma("summer_1am", "Risto Saukonpää", "a calm lake under a purple sky"),
)
