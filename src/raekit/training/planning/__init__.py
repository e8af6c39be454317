"""What a run will take, before it is started: work, memory, time and traffic, from a recipe alone.

In: a resolved recipe. Out: the rows of ``raekit explain``. Nothing here is loaded or run; shapes come from networks on
the meta device.
"""
