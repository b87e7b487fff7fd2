"""Training examples: their tokens, and their layout in packed micro-batches.

Shape letters: G groups of a micro-batch (one for each data-parallel device), R rows of
a group, T positions of a row, L positions of a group's whole sequence, P predicted
positions, N trees of a group, E branches of a tree, X examples of the run.
"""
