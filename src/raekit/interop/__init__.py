"""Weights of other systems: key maps from their layouts to ours and back, bit for bit.

In: files as their authors publish them. Out: state dicts of raekit modules, with every key accounted for. Foreign names
live here and nowhere else, and only here is ``torch.load`` used, with ``weights_only=True``.
"""
