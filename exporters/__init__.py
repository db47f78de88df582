"""From a trained network to an .onnx file: folding, export, graph passes and the proof of parity."""
