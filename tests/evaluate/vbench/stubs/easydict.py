"""Not installed for the tests, and not used in them."""

from absent import __getattr__  # noqa: F401
