"""What of a runtime computes: ONNX Runtime's providers, LiteRT's delegates."""

from __future__ import annotations
