"""A small world and its video model, for the paper's experiment on a CPU.

A scene (`world`) has a clip (`clips`) and a caption in the style that the video model
knows (`captions`). `model` is a small CogVideoX, which `train` trains on both.
`measure` reads a clip's attributes from its frames, and `scorer` is the reward. Users'
queries are in `queries`, and the teacher's rules in `teacher`.

`preset.json` and `second_preset.json` are the settings of the two video models.
"""
