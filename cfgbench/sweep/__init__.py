"""Run a cell, run what is missing, keep the rows.

`results/` is what is kept, `forecast/` what it will cost, `workers/` the processes side by side.
"""
