"""The names of the numbers and how many images they take, without the mathematics: nothing is imported here."""

ERROR_OF = {"fid": "fid_se", "fid_infinity": "fid_infinity_se", "is_mean": "is_se"}
"""A metric's column -> that of its standard error."""

MANY_IMAGES = 10_000
"""From here on FID's bias is small beside the differences that people report."""
