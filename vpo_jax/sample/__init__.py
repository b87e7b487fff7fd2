"""Sampling prompts from the policy: the stem once, a query once, each token once.

Shape letters as in `decoder`, and: S stem tokens, T positions of a slot's own cache,
G queries of a prefill, Q tokens of a query's tail (what follows the stem), B slots.
"""
