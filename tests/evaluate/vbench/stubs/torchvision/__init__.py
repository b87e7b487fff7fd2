"""Not installed for the tests."""
