"""How numbers are told, wherever they are."""


def strength(w: float, *, classifier: bool = False) -> str:
    """`w 0.3 (scale 1.3)`: both conventions; `w 0.3` for the weight of a classifier, which is no such scale."""
    return f"w {w:g}" if classifier else f"w {w:g} (scale {1 + w:g})"
