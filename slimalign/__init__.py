"""slimalign: compact facial-landmark networks for a Jetson or a phone, with the cost and quality of each.

The verbs of the command line are functions of ``slimalign.api``.
"""

__version__ = "0.1.0"
