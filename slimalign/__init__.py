"""slimalign: compact facial-landmark networks for a Jetson or a phone, with the cost and quality of each."""

__version__ = "0.1.0"
