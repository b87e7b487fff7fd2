"""Export as GGUF, the format of llama.cpp, Ollama and LM Studio.

The format is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
`architecture` and `vocabulary` say what of a model has a place in it, `modelfile` has
the settings for Ollama, and `export` writes all files.
"""
