"""Sampling: prefill, cached decoding and continuous batching.

The stem that all prompts share is computed once, and so is the rest of a query's prompt
(its tail), for all its candidates.

Shape letters as in `decoder`, where B counts slots and S the positions of a slot's
cache, and: U tails of a prefill chunk, T tokens of the chunk, M = N / K query heads of
a key-value head, Q = T * M queries of a key-value head.
"""
