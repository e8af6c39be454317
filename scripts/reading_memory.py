"""How much memory a process needs to take up a pretrained language model that will be cut over all of them.

    torchrun --nproc-per-node 2 scripts/reading_memory.py            read after it was cut
    torchrun --nproc-per-node 2 scripts/reading_memory.py --whole    read whole by every process, then cut

In: nothing; the model is a Llama of 207 million random weights, in bf16, made by the first process. Out: one line with
the resident memory of the first process ahead of it, at its highest, and with its pieces in fp32.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from raekit import distributed
from raekit.conditioning.language_model import load_language_model
from raekit.training.parallel.placement import ParallelConfig, place_modules
from raekit.training.parallel.unread import Unread

GIGA = 1e9
CPU = torch.device("cpu")


def save(folder: Path) -> None:
    """The model and a tokenizer of one word."""
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
    is_whole = parser.parse_args().whole
    with tempfile.TemporaryDirectory() as temporary:
        if os.environ["RANK"] == "0":
            if os.fork() == 0:  # what making it takes is not counted
                save(Path(temporary))
                os._exit(0)
            os.wait()
        distributed.join(CPU)
        folder = distributed.gathered(temporary)[0]
        before = resident("VmRSS")
        unread = None if is_whole else Unread.of(folder)
        model = load_language_model(folder, torch.float32)[0] if unread is None else unread.model
        num_weights = sum(p.numel() for p in model.parameters())
        place_modules(
            {"language_model": model},
            ParallelConfig(strategy="fsdp"),
            CPU,
            is_bf16=False,
            fill=lambda: None if unread is None else unread.read(CPU),
        )
        distributed.barrier()
    if distributed.is_main():
        print(
            f"{num_weights / 1e6:.0f} M weights, {4 * num_weights / GIGA:.2f} GB in fp32, on {distributed.world()}: "
            f"{before:.2f} GB before, {resident('VmHWM'):.2f} GB at most, {resident('VmRSS'):.2f} GB with its pieces"
        )
    distributed.leave()


main()
