"""Grids as ONNX models: ``grid.to_onnx(path)`` and ``gridc export``.  ``onnx`` itself is imported late, and only to write."""
