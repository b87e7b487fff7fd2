"""The tiny model of the sampler's tests."""

from tests.sample.conftest import policy, tiny

__all__ = ["policy", "tiny"]
