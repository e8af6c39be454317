"""The command line: one short file per verb.

In: words typed in a shell. Out: one library call per verb and a report of it. Nothing here knows about models, and
nothing heavy is imported before a verb runs, so that ``raekit --help`` answers at once.
"""
