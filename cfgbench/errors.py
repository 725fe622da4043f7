"""What a person gave cannot be used."""


class UserError(Exception):
    """A file, a key or an option that cannot be used.

    The message is one line: the file or place, the key, the value, and the way out. The command line prints it and
    exits with 2; nothing has been written by then.
    """
