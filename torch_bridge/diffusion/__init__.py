"""Diffusion DPO: preference training of a video model (arXiv:2311.12908)."""
