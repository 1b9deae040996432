"""Faust processors that the pharmacy owns."""
