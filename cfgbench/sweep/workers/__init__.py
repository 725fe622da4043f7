"""A sweep divided among processes on one machine."""
