"""Describes a set of texts: words, self-BLEU, and the parts of a data card."""
