"""Which rows stand together, their means, errors and differences."""
