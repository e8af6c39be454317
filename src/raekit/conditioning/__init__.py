"""Conditioners: what the picture is to be, as the backbone reads it.

In: prompts or class labels. Out: a :class:`~raekit.conditioning.base.Cond`. ``label`` looks a class up in a table
(RAE); ``query`` reads a prompt with a language model through learnable queries (Scale-RAE, section 3); ``text`` hands
the prompt's words over as they are, to be read in context (RAEv2); ``unified`` is the query condition of a language
model that also sees and speaks (``multimodal/``).
"""

from raekit.registry import Registry

CONDITIONERS = Registry(
    "conditioners",
    {
        "label": "raekit.conditioning.label:LabelConditioner",
        "query": "raekit.conditioning.query:QueryConditioner",
        "text": "raekit.conditioning.text:TextConditioner",
        "unified": "raekit.multimodal.conditioner:UnifiedConditioner",
    },
)
