"""mien: learn the seven FER2013 expressions, say honestly how well, and read them in pictures."""
