"""Draw what the nano generator was never shown: 16 scenes whose combinations were held out of its training.

    python scripts/held_out_sheet.py --shards data/scenes --out docs/held_out_pairs.png

In: the shards of scenes and a generator. Out: a sheet, for each scene the picture that was held out beside the one that
was drawn for its caption. The scenes are chosen by a fixed seed, not by how well they came out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import raekit
from raekit.config import read_recipe
from raekit.data.dataset import DataConfig, build_dataset
from raekit.image_grid import image_grid

ROOT = Path(__file__).resolve().parents[1]
NUM_PAIRS = 16


def main() -> None:
    arguments = parse()
    recipe = read_recipe(ROOT / "recipes/nano/generator.yaml")
    settings = recipe["held_out"]
    settings["mixture"][0]["path"] = str(arguments.shards)
    dataset = build_dataset(DataConfig.model_validate(settings), seed=arguments.seed)
    items = [dataset[position] for position in range(NUM_PAIRS)]
    generator = raekit.load(arguments.model)
    drawn = generator([item.caption for item in items], num=1, seed=arguments.seed, output="tensor")
    pairs = []
    for item, picture in zip(items, drawn, strict=True):
        pairs += [torch.from_numpy(item.image).float() / 255, picture]
    captions = [text for item in items for text in ("held out", item.caption)]
    image_grid(torch.stack(pairs), columns=8, captions=captions, scale=2).save(arguments.out)
    print(f"wrote {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, default=Path("data/scenes"))
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("docs/held_out_pairs.png"))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
