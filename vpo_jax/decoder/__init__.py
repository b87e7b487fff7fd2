"""The language model as pure functions over a pytree.

Shape letters: B rows, T query positions, S key positions, D model, N query heads,
K key-value heads, H head, F feed-forward, V vocabulary. Forest attention adds G groups
and R rows of a group; the blockwise head adds P predicted positions and W words of a
block; `matmul` uses I and O for a matrix's inputs and outputs.
"""
