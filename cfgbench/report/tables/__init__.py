"""Tables of a sweep: what stands in their cells and under them, and the formats in which they are written."""
