"""Drawn faces: a deterministic generator of face images with exact landmarks."""

from slimalign.compress.data.drawn.generate import DrawnFace, draw_face, drawn_samples, face_seed

__all__ = ["DrawnFace", "draw_face", "drawn_samples", "face_seed"]
