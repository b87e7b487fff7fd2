"""Programs for the environments of other systems; each runs by its path alone."""
