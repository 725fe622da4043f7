"""Run a cell, run what is missing, keep the rows."""
