"""MLServer with an ONNX model, on this machine's loopback alone.

`mlserver_serve.py <model.onnx> <HTTP port> <gRPC port> <metrics port>`, run in an environment with what mlserver.txt names. The
model is `delay`, version 1, and takes one matrix. Nothing is written down, nobody is asked for a key, no access log is kept;
metrics are on, as they are unless somebody turns them off. No parallel workers: one process, as one worker of falaj is.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop


class OnnxRuntime(MLModel):
    """The same session with the same options as falaj's."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        uri = self.settings.parameters.uri
        self._session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        matrix = NumpyCodec.decode_input(payload.inputs[0])
        found = self._session.run(None, {self._input: matrix})
        outputs = [NumpyCodec.encode_output(name, value) for name, value in zip(self._outputs, found, strict=True)]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


async def serve(model: Path, http: int, grpc: int, metrics: int) -> None:
    folder = model.parent
    settings = Settings(
        debug=False,
        parallel_workers=0,
        host="127.0.0.1",
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        metrics_dir=str(folder / "metrics"),
        environments_dir=str(folder / "environments"),
        load_models_at_startup=False,
    )
    about = ModelSettings(
        name="delay", implementation=OnnxRuntime, parameters=ModelParameters(uri=str(model), version="1"), parallel_workers=0
    )
    await MLServer(settings).start([about])


if __name__ == "__main__":
    install_uvloop_event_loop()
    asyncio.run(serve(Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:5])))
