# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the NVIDIA driver and TensorRT say of themselves, asked of their libraries; no runtime is needed."""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from dff_ros.errors import BackendUnavailableError

_DRIVER = 'libcuda.so.1'
_TENSORRT = ('libnvinfer.so.10', 'libnvonnxparser.so.10')
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU that this process may use; `capability` is its compute capability, as '9.0'."""

    name: str
    capability: str


def find_gpu() -> Gpu:
    """BackendUnavailableError where there is no driver or no GPU."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise BackendUnavailableError(
            f'there is no NVIDIA driver ({error}): install it, or set device and provider to cpu'
        ) from error
    device, count = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_MAX_NAME)
    capability = ctypes.c_int(), ctypes.c_int()
    for status in (
        driver.cuInit(0),
        driver.cuDeviceGetCount(ctypes.byref(count)),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, _MAX_NAME, device),
        driver.cuDeviceGetAttribute(ctypes.byref(capability[0]), _MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(capability[1]), _MINOR, device),
    ):
        if status:
            raise BackendUnavailableError(
                f'the NVIDIA driver gives no GPU (error {status} of {_DRIVER}): check nvidia-smi and '
                'CUDA_VISIBLE_DEVICES, or set device and provider to cpu'
            )
    major, minor = (number.value for number in capability)
    return Gpu(name.value.decode(), f'{major}.{minor}')


def load_tensorrt() -> str:
    """Load TensorRT, from the system or its pip package, and return its version; BackendUnavailableError
    where there is none.
    """
    try:
        library = _load_libraries(('',))
    except OSError:
        try:
            library = _load_libraries(_package_folders('tensorrt_libs'))
        except OSError as error:
            raise BackendUnavailableError(
                f'provider tensorrt: TensorRT 10 does not load ({error}): pip install tensorrt, for the '
                'CUDA version of onnxruntime-gpu (tensorrt-cu12, tensorrt-cu13), or set provider to cuda'
            ) from error
    number = int(library.getInferLibVersion())
    return f'{number // 10000}.{number // 100 % 100}.{number % 100}'


def _load_libraries(folders: tuple[str, ...]) -> ctypes.CDLL:
    """The first of them; whoever asks for the others by name later finds them loaded."""
    failure = OSError(f'{_TENSORRT[0]} is not installed')
    for folder in folders:
        try:
            return [ctypes.CDLL(str(Path(folder, name)), ctypes.RTLD_GLOBAL) for name in _TENSORRT][0]
        except OSError as error:
            failure = error
    raise failure


def _package_folders(package: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec(package)
    return tuple(spec.submodule_search_locations or ()) if spec else ()
