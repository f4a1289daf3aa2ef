"""From NumPy and torch to the compiled core. The only room that touches `_core` and `_cuda`."""
