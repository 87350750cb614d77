"""The graphs of a bundle in eager torch, on the CPU or a CUDA device, from the safetensors weights."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dff_ros.backends.graph import Size, image_taps, score_matrices
from dff_ros.bundle import Bundle
from dff_ros.errors import BackendUnavailableError, BundleError, DataError
from dff_ros.nets.dff import DffModel, load_model
from dff_ros.nets.graphs import ExtractGraph, PredictGraph, PropagateGraph, WarpGraph


class TorchRunner:
    """The same modules that were exported. `num_threads` is set for torch in the whole process.

    Raises BackendUnavailableError for a CUDA device that is not there, BundleError for weights that do not
    fit.
    """

    def __init__(self, bundle: Bundle, num_threads: int, has_flow_net: bool, device: str = 'auto') -> None:
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if device == 'cuda' and not torch.cuda.is_available():
            raise BackendUnavailableError(
                'torch finds no CUDA device: install its CUDA build and the driver, or set device to cpu'
            )
        torch.set_num_threads(num_threads)
        self._device = torch.device(device)
        self._has_flow_net = has_flow_net
        model = _load_model(bundle).to(self._device)
        self._stride = model.stride
        self._graphs: dict[str, nn.Module] = {
            'extract': ExtractGraph(model),
            'warp': WarpGraph(),
            'predict': PredictGraph(model),
        }
        if has_flow_net:
            self._graphs['propagate'] = PropagateGraph(model)
        self._taps = lru_cache(maxsize=16)(self._make_taps)
        self._matrices = lru_cache(maxsize=16)(self._make_matrices)

    @property
    def device(self) -> str:
        """Where it runs: 'cpu' or the name of the CUDA device."""
        return 'cpu' if self._device.type == 'cpu' else f'cuda ({torch.cuda.get_device_name(self._device)})'

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f'torch {torch.__version__}'

    @torch.inference_mode()
    def extract(self, image_HW3: NDArray[np.uint8], network: Size) -> tuple[Tensor, Tensor | None]:
        """See GraphRunner."""
        outputs = self._graphs['extract'](self._tensor(image_HW3), *self._taps(image_HW3.shape[:2], network))
        return outputs[0], outputs[1] if self._has_flow_net else None

    @torch.inference_mode()
    def warp(self, feature: Tensor, flow_2hw: NDArray[np.float32]) -> tuple[Tensor, NDArray[np.float32]]:
        """See GraphRunner."""
        warped, validity = self._graphs['warp'](feature, self._tensor(flow_2hw[None]))
        return warped, validity.cpu().numpy()

    @torch.inference_mode()
    def propagate(
        self, image_HW3: NDArray[np.uint8], network: Size, key_image: Tensor, key_feature: Tensor
    ) -> tuple[Tensor, NDArray[np.float32], NDArray[np.float32]]:
        """See GraphRunner."""
        taps = self._taps(image_HW3.shape[:2], network)
        feature, validity, flow = self._graphs['propagate'](
            self._tensor(image_HW3), *taps, key_image, key_feature
        )
        return feature, validity.cpu().numpy(), flow[0].cpu().numpy()

    @torch.inference_mode()
    def predict(
        self, feature: Tensor, network: Size, output: Size
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See GraphRunner."""
        label_map, confidence = self._graphs['predict'](feature, *self._matrices(output, network))
        return label_map.cpu().numpy(), confidence.cpu().numpy()

    def grid(self, feature: Tensor) -> Size:
        """See GraphRunner."""
        return feature.shape[2], feature.shape[3]

    def close(self) -> None:
        """See GraphRunner."""
        self._graphs = {}
        self._taps.cache_clear()
        self._matrices.cache_clear()

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        if (
            not array.flags.writeable
        ):  # torch has no read-only tensors and warns; nothing here writes to its inputs
            array = array.copy()
        return torch.from_numpy(array).to(self._device)

    def _make_taps(self, source: Size, network: Size) -> tuple[Tensor, ...]:
        return tuple(self._tensor(array) for array in image_taps(source, network))

    def _make_matrices(self, output: Size, network: Size) -> tuple[Tensor, ...]:
        return tuple(self._tensor(array) for array in score_matrices(output, network, self._stride))


def _load_model(bundle: Bundle) -> DffModel:
    try:
        return load_model(bundle.spec, bundle.weights_path)
    except DataError as error:
        raise BundleError(f'bundle {bundle.path}: {error}') from error
