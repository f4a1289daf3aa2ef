"""What any room may use: files, checks of arguments, vectors, text for a terminal. Knows nothing of CLIP."""
