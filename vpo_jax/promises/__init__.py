"""What a prompt must keep of its query, and what its video model can read."""
