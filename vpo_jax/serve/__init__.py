"""The trained optimizer in people's hands: the command line, HTTP, an export."""
