"""Readers of the public landmark data sets, one file a format."""
