"""Data sets and generated data."""
