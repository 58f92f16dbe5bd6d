"""Networks: the supernet and its students, teachers, and what they cost."""
