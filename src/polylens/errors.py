"""The one exception for what a user can mend."""


class UserError(Exception):
    """One sentence with the value, the limit and the remedy; commands print it without a traceback and exit with 2."""
