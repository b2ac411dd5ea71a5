"""Models in the ONNX format, run by onnxruntime: semantic networks, pairs of SAM, and exported YOLOE."""
