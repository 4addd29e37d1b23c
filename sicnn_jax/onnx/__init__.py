"""Recognition networks of others, as ONNX files."""
