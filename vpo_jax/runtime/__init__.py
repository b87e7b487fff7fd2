"""Process plumbing of a stage: flags, processes, signals, console, memory, caches."""
