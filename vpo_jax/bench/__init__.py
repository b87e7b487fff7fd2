"""Measurements: a module a stage, each against the ecosystem's program, in turns."""
