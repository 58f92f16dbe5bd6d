"""Compression: data, networks, losses, cost, search, slimming, distillation. Importing this needs no torch."""
