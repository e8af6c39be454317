"""The one exception for mistakes a user can mend.

``UserError`` carries one sentence that names the field, the value and the fix. The command line prints it and exits
with code 2; every other exception is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Bad input: the message is one sentence naming the field, the value and the fix."""
