"""Verifiers: which of several pictures shows what was asked for.

In: candidates and their prompts. Out: a score for each, higher is better. Those of Scale-RAE (section 5.2) see latents,
and nothing is decoded: the judge is the unified model itself, which sees what it drew, or another one of the same
latent space. ``answer_logits`` asks it whether picture and prompt fit, ``prompt_confidence`` how well the prompt
follows from the picture. ``clip_score`` and ``siglip_score`` see rendered pixels, for comparison. Whoever keeps the
best of N takes any callable of pixels besides (``judge``).
"""

from raekit.registry import Registry

VERIFIERS = Registry(
    "verifiers",
    {
        "answer_logits": "raekit.verifiers.answer_logits:AnswerLogits",
        "prompt_confidence": "raekit.verifiers.prompt_confidence:PromptConfidence",
        "clip_score": "raekit.verifiers.contrastive:CLIPScore",
        "siglip_score": "raekit.verifiers.contrastive:SigLIPScore",
    },
)
