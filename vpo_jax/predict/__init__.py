"""Prediction of the video reward from the policy's hidden states.

Shape letters as in `decoder`, and: N prompts, Q their queries, K prompts of a query, F
features, R rank of the features.
"""
