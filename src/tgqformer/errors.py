"""Errors that are meant for the person at the keyboard."""


class TgqError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """
