"""A command a file, and what they share: parse, call, print. What is heavy the command imports that needs it."""
