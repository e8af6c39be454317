"""What watches a run: steps that are not finite, losses that jump, loaders that hang.

In: numbers of every step, still on their device. Out: steps left out, a return to an earlier checkpoint, or a report.
"""
