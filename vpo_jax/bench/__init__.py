"""Benchmarks of the stages, interleaved with transformers or TRL on the same work."""
