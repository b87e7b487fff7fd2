"""Attention over a packed forest on TPUs: a Pallas kernel that follows the paths."""
