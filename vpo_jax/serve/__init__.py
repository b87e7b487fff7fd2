"""Inference with the trained optimizer: command line, HTTP server, export."""
