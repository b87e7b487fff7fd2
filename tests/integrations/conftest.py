"""The project's server, as in the tests of serve/."""

from tests.serve.conftest import policy, scripted, shared, url

__all__ = ["policy", "scripted", "shared", "url"]
