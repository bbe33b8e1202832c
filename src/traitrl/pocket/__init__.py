"""The embedded world: a complete miniature of the study on two CPU cores, through the same code as real models."""
