"""From a trained network to an .onnx file: folding, export, passes, parity."""
