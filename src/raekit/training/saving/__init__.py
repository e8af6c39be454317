"""A run on disk: its directory, its lock, its checkpoints, and the signals that ask for one.

In: whatever a run has to remember. Out: files that are whole or absent, from which any number of processes goes on.
"""
