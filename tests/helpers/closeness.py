"""How far apart two results are that only rounding should tell apart."""


def apart(found, wanted):
    """|found - wanted| / |wanted|, of all numbers of the two tensors together."""
    return ((found - wanted).norm() / wanted.norm()).item()
