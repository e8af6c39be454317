"""Verifiers: which of several pictures shows what was asked for, told from their latents.

In: latents of candidates and their prompts. Out: a score for each, higher is better; nothing is decoded. The judge is
the unified model itself, which sees the latents it drew (Scale-RAE, section 5.2): ``answer_logits`` asks it whether
picture and prompt fit, ``prompt_confidence`` how well the prompt follows from the picture. Whoever keeps the best of N
takes any callable of that form, so that a score of decoded pixels can stand in for comparison.
"""

from raekit.registry import Registry

VERIFIERS = Registry(
    "verifiers",
    {
        "answer_logits": "raekit.verifiers.answer_logits:AnswerLogits",
        "prompt_confidence": "raekit.verifiers.prompt_confidence:PromptConfidence",
    },
)
