"""Read faces in pictures and video with an ONNX model: NumPy, Pillow, OpenCV and ONNX Runtime, never Keras."""
