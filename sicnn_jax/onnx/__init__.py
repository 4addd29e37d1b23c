"""Third-party recognition networks, as ONNX files."""
