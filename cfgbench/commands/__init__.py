"""A command a file: parse, call, print. What is heavy is imported within the command that needs it."""
