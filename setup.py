# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Package description for colcon (ament_python) and pip."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = 'dff_ros'
SHARE = f'share/{NAME}'


def model_files() -> list[tuple[str, list[str]]]:
    """Return (install directory, files) for every directory below models/."""
    directories = sorted({path.parent for path in Path('models').rglob('*') if path.is_file()})
    return [
        (f'{SHARE}/{directory}', sorted(str(path) for path in directory.iterdir() if path.is_file()))
        for directory in directories
    ]


EXTRAS = {
    'torch': ['torch>=2.11', 'safetensors'],
    # One of these three: they are imported by the same name.
    'onnxruntime': ['onnxruntime'],
    'onnxruntime-gpu': ['onnxruntime-gpu', 'onnx'],
    'onnxruntime-openvino': ['onnxruntime-openvino'],
    'export': ['torch>=2.11', 'safetensors', 'onnx', 'onnxscript'],
    'opencv': ['opencv-python-headless'],
    'video': ['av'],
    'bag': ['rosbags'],
    'tools': ['rich', 'matplotlib', 'pillow', 'pycocotools'],
    'test': ['pytest', 'pytest-xdist', 'hypothesis', 'rosbags', 'rosbags-image', 'torchmetrics'],
    'lint': ['ruff', 'mypy', 'types-PyYAML'],
}

setup(
    name=NAME,
    version='0.1.0',
    description='Deep Feature Flow for video recognition as a ROS 2 node',
    author='dff_ros maintainers',
    author_email='maintainers@dff-ros.example.org',
    maintainer='dff_ros maintainers',
    maintainer_email='maintainers@dff-ros.example.org',
    license='Apache-2.0',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml']),
        (f'{SHARE}/launch', sorted(glob('launch/*'))),
        (f'{SHARE}/config', sorted(glob('config/*'))),
        *model_files(),
    ],
    python_requires='>=3.11',
    install_requires=['numpy>=1.26', 'PyYAML'],
    extras_require=EXTRAS,
    entry_points={
        'console_scripts': [
            'dff = dff_ros.cli:main',
            'dff_node = dff_ros.ros.node:main',
            'dff_camera = dff_ros.ros.camera:main',
            'dff_mask = dff_ros.ros.mask:main',
        ],
    },
    zip_safe=False,
)
