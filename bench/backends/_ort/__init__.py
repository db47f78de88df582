"""What the onnxruntime backend is made of."""
