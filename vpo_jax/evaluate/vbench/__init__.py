"""VBench (arXiv:2311.17982): its prompts, and its scores of rendered videos.

The paper's tables 1, 3 and 5 use four of its 16 dimensions. VBench itself runs in an
interpreter of its own; nothing of it is imported here.
"""
