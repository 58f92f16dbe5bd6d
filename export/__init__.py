"""From a trained network to a bundle: ONNX and LiteRT files, parity checks, the bundle writer."""
