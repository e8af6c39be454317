"""Several processes as one: how weights lie on them, how gradients meet, how they agree.

In: finished modules and the processes that ``torchrun`` started. Out: the same step that one process would take.
"""
