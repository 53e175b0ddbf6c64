"""The face detector: MTCNN's three networks assembled into one ONNX file for serving."""
