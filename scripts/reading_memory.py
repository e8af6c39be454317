"""How much memory a process needs to take up a finished network that will be cut over all of them.

    torchrun --nproc-per-node 2 scripts/reading_memory.py               a language model, read after it was cut
    torchrun --nproc-per-node 2 scripts/reading_memory.py --backbone    a generator's backbone (init_generator)
    torchrun --nproc-per-node 2 scripts/reading_memory.py --whole       either, whole on every process and then cut

In: nothing; the network is a Llama of 207 million random weights in bf16, or a DiT of 232 million in fp32, made by the
first process. Out: one line with the resident memory of the first process ahead of it, at its highest, and with its
pieces in fp32. Pages of the file, which all processes of a machine share, count as resident once they were looked at.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from raekit import distributed
from raekit.backbones import BACKBONES
from raekit.checkpoint import load_safetensors
from raekit.conditioning.language_model import load_language_model
from raekit.training.parallel.outlines import Outlines
from raekit.training.parallel.placement import ParallelConfig, place_modules
from raekit.training.parallel.unread import Unread

GIGA = 1e9
CPU = torch.device("cpu")


DIT = {"name": "dit", "width": 1024, "depth": 12, "heads": 16}
LATENT_SHAPE, COND_WIDTH = (768, 16, 16), 1024
BACKBONE_FILE = "backbone.safetensors"


def save_backbone(folder: Path) -> None:
    """Weights of the DiT."""
    backbone = BACKBONES.build(settings(), latent_shape=LATENT_SHAPE, cond_width=COND_WIDTH)
    save_file(backbone.state_dict(), folder / BACKBONE_FILE)


def settings() -> Any:
    """Of the DiT."""
    return BACKBONES["dit"].Config.model_validate(DIT)


def take_up_backbone(folder: Path, is_whole: bool) -> nn.Module:
    """As a run with ``init_generator`` does."""
    outlines, parallel = Outlines(None, is_used=not is_whole), ParallelConfig(strategy="fsdp")
    backbone = outlines.builders[0](settings(), latent_shape=LATENT_SHAPE, cond_width=COND_WIDTH)
    outlines.give(backbone, load_safetensors(folder / BACKBONE_FILE), str(folder))
    place_modules(
        {"backbone": backbone}, parallel, CPU, is_bf16=False, fill=lambda: outlines.fill(backbone, nn.Identity(), CPU)
    )
    return backbone


def take_up_language_model(folder: Path, is_whole: bool) -> nn.Module:
    """As a run with ``is_llm_trained`` does."""
    unread = None if is_whole else Unread.of(str(folder))
    model: nn.Module = load_language_model(folder, torch.float32)[0] if unread is None else unread.model
    fill = (lambda: None) if unread is None else partial(unread.read, CPU)
    place_modules({"language_model": model}, ParallelConfig(strategy="fsdp"), CPU, is_bf16=False, fill=fill)
    return model


def save_language_model(folder: Path) -> None:
    """The Llama and a tokenizer of one word."""
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=11, num_attention_heads=16
            )
        )
    model.to_empty(device="cpu").bfloat16()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)


def resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, gigabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024 / GIGA


def main() -> None:
    """Take it up one way or the other, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--backbone", action="store_true")
    asked = parser.parse_args()
    save, take_up = (
        (save_backbone, take_up_backbone) if asked.backbone else (save_language_model, take_up_language_model)
    )
    with tempfile.TemporaryDirectory() as temporary:
        if os.environ["RANK"] == "0":
            if os.fork() == 0:  # what making it takes is not counted
                save(Path(temporary))
                os._exit(0)
            os.wait()
        distributed.join(CPU)
        folder = Path(distributed.gathered(temporary)[0])
        before = resident("VmRSS")
        network = take_up(folder, asked.whole)
        num_weights = sum(p.numel() for p in network.parameters())
        distributed.barrier()
    if distributed.is_main():
        print(
            f"{num_weights / 1e6:.0f} M weights, {4 * num_weights / GIGA:.2f} GB in fp32, on {distributed.world()}: "
            f"{before:.2f} GB before, {resident('VmHWM'):.2f} GB at most, {resident('VmRSS'):.2f} GB with its pieces"
        )
    distributed.leave()


main()
