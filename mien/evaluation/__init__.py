"""Labels and probabilities in, figures out. Never Keras: whatever predicts is judged by the same code."""
