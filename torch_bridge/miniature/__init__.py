"""The paper's experiment in miniature: a small world and its video model.

Scenes (`world`) become clips (`clips`) and captions in the video model's register
(`captions`); `model` is a small CogVideoX, trained by `train` on pairs of the two;
`measure` reads a clip's attributes back from its frames.
"""
