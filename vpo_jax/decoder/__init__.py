"""The language model as pure functions over a pytree.

Shape letters: B sequences, L tokens of a sequence, D model, N query heads, K key-value
heads, H head, F feed-forward, V vocabulary, Y layers. Forest attention adds G groups,
S stem tokens, R rows, T tokens of a row.
"""
