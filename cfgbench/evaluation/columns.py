"""The names of the numbers and how many images they take, without the mathematics: nothing is imported here."""

ERROR_OF = {"fid": "fid_se", "fid_infinity": "fid_infinity_se", "is_mean": "is_se"}
"""A metric's column -> that of its standard error."""

MANY_IMAGES = 10_000
"""Of fewer an FID is said to be biased; of more where it is measured to be."""


def biased(samples: int, excess: float, se: float) -> bool:
    """Whether an FID of so many images is said to be biased: of few, or where it exceeds FID∞ by more than its standard
    error. NaN stands for what is not known."""
    return samples < MANY_IMAGES or excess > se
