"""Parity of the discriminator, its augmentation, and the adversarial losses with RAE.

The published losses take images in [-1,1]; here they are brought to [0,1] on the way in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.case import Case
from raekit.checkpoint import load_strict
from raekit.losses.adversarial import accuracy, adaptive_weight, discriminator_loss, generator_loss, quantise
from raekit.losses.diffaug import DiffAug
from raekit.losses.dino import DINO, UNUSED, Shape
from raekit.losses.discriminator import Discriminator


def discriminator(case: Case) -> dict[str, Tensor]:
    """Evaluation first; then one training forward of each batch, which moves the singular vectors."""
    network = official_discriminator(case)
    fake = case.inputs["fake"].requires_grad_()
    seen, real = (fake + 1) / 2, (case.inputs["real"] + 1) / 2
    logits = network(seen)
    generator_loss("vanilla", logits).backward()
    outputs = {"logits_fake": logits, "logits_real": network(real), "grad_gen_loss_wrt_fake": fake.grad}
    outputs |= {f"dino_activation_{k}": tap.transpose(1, 2) for k, tap in enumerate(network.taps(seen))}
    if not case.config["using_spec_norm"]:
        return outputs
    network.train()
    outputs |= {"logits_fake_train_mode": network(seen), "logits_real_train_mode": network(real)}
    return outputs | {f"train_mode_buffer/{name}": value for name, value in network.named_buffers()}


def augmentation(case: Case) -> dict[str, Tensor]:
    """One coin for the whole batch is the same coin for each sample."""
    outputs = {"discretised": quantise((case.inputs["to_discretise"] + 1) / 2) * 2 - 1}
    image = (case.inputs["image"] + 1) / 2
    for name, settings in case.config.items():
        number = name.removeprefix("aug_")
        gates = case.inputs[f"gate_{number}"].expand(len(image), -1)
        draws = torch.cat([gates, case.inputs[f"draws_{number}"].flatten(1).T], dim=1)
        augment = DiffAug(DiffAug.Config(prob=settings["prob"], cutout=settings["cutout"]))
        outputs[name] = augment(image, draws, blur=settings["blur_warmup"]) * 2 - 1
    return outputs


def adversarial(case: Case) -> dict[str, Tensor]:
    inputs, logits = case.inputs, (case.inputs["logits_real"], case.inputs["logits_fake"])
    generator = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 12))
    generator.load_state_dict(case.group("weights/generator."))
    judge = nn.Sequential(nn.Linear(12, 7), nn.LeakyReLU(0.2), nn.Linear(7, 1))
    judge.load_state_dict(case.group("weights/discriminator."))
    redrawn, last = generator(inputs["z"]), generator[2].weight
    reconstruction = F.l1_loss(redrawn, inputs["target"])
    fooling = generator_loss("vanilla", judge(redrawn * 2 - 1))
    gradients = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (reconstruction, fooling)]
    weight = adaptive_weight(*gradients, limit=case.config["max_d_weight"])
    total = reconstruction + case.config["disc_weight"] * weight * fooling
    total.backward()
    return {
        "hinge_d": discriminator_loss("hinge", *logits),
        "vanilla_d": discriminator_loss("vanilla", *logits),
        "vanilla_g": generator_loss("vanilla", logits[1]),
        "disc_accuracy": accuracy(*logits),
        "recon_l1": reconstruction,
        "gan_loss": fooling,
        "adaptive_weight": weight,
        "adaptive_weight_clamped": adaptive_weight(gradients[0], torch.zeros(1), limit=case.config["max_d_weight"]),
        "total": total,
        "grad_last_layer": last.grad,
        "grad_first_bias": generator[0].bias.grad,
    }


CASES = {
    "rae_06a_dino_disc_bn": discriminator,
    "rae_06a_dino_disc_gn": discriminator,
    "rae_06b_diffaug": augmentation,
    "rae_07_gan_losses": adversarial,
}

SUMS = "a sum over the logits instead of their mean, which no published training uses"
NOT_COVERED = {"rae_07_gan_losses": {"hinge_d_sum": SUMS, "vanilla_g_sum": SUMS}}


def official_discriminator(case: Case) -> Discriminator:
    """The case's heads on its reduced DINO; blocks are counted from 0 there, and the last one comes first."""
    recipe, settings = case.config["recipe"], case.config
    dino = DINO(Shape(recipe["embed_dim"], recipe["depth"], recipe["num_heads"], recipe["patch_size"]))
    load_strict(dino, {key: value for key, value in case.group("dino/").items() if key not in UNUSED}, case.name)
    config = Discriminator.Config(
        layers=(-1, *(block + 1 for block in settings["key_depths"])),
        kernel_size=settings["ks"],
        norm=settings["norm_type"],
        has_spectral_norm=settings["using_spec_norm"],
    )
    network = Discriminator(config, dino).eval()
    load_strict(network, case.weights, case.name)
    return network
