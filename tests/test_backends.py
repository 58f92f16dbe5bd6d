"""What of a runtime computes: ONNX Runtime's providers, LiteRT's delegates."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from needs import needed
from small_litert import small_litert

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.litert_session import LiteRtSession
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import Backend
