"""The names of the numbers, for those who have no need of the mathematics: nothing is imported here."""

ERROR_OF = {"fid": "fid_se", "fid_infinity": "fid_infinity_se", "is_mean": "is_se"}
"""A metric's column -> that of its standard error."""
