"""Figures: how they are drawn, and written as files."""
