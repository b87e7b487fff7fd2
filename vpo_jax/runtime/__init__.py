"""Processes, flags and the console: what runs a stage, whatever the stage does."""
