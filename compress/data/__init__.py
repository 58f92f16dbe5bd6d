"""Faces with landmarks: readers of the public data sets and drawn faces. Nothing in here imports torch."""
