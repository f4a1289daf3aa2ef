"""CLIP models: loaded, their towers read, texts and pictures embedded, and the way into the joint space."""
