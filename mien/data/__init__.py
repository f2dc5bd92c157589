"""Bytes in, arrays out: fetching, decoding, drawing, splitting and auditing faces. NumPy and Pillow, never Keras."""
