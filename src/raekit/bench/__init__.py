"""How fast: a recipe's step and a model's sampling, taken apart into the parts that cost.

In: a recipe or a model. Out: images per second, each part's seconds, floating-point operations counted, the fraction of
the matmul speed measured beside it, and peak memory. Two settings are compared within one call, since machines are
noisy.
"""
