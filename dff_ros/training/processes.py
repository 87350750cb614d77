# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Several processes that train one model together, as torchrun starts them: gloo on the CPU, NCCL on CUDA."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dff_ros.errors import ConfigError
from dff_ros.training.learner import choose_device

ResultT = TypeVar('ResultT')


@dataclass(frozen=True, slots=True)
class Processes:
    """This process is number `rank` of `world`."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes; `values` itself is changed too."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        if self.world == 1:
            return flag
        device = 'cuda' if dist.get_backend() == 'nccl' else 'cpu'
        return bool(self.sum(torch.tensor(float(flag), device=device)))

    def share(self, batch: int) -> range:
        """The slots of a batch that are this process's."""
        return range(self.rank, batch, self.world)

    def check_batch(self, batch: int, accumulate: int) -> None:
        """ConfigError where a batch has fewer pairs than there are processes and parts."""
        if batch < self.world * accumulate:
            raise ConfigError(
                f'batch: got {batch}, too few for {self.world} processes and {accumulate} parts in each'
            )

    def first_alone(self, make: Callable[[], ResultT]) -> ResultT:
        """`make` in the first process, then in the others: what it keeps on disk is made once."""
        if not self.is_first:
            dist.barrier()
        result = make()
        if self.is_first and self.world > 1:
            dist.barrier()
        return result


ALONE = Processes()


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Meet the others that torchrun started, for the time of the block; without torchrun there are none.

    Only the first process prints. BackendUnavailableError where CUDA is asked for and missing.
    """
    world = int(os.environ.get('WORLD_SIZE', '1'))
    if world == 1:
        yield ALONE
        return
    is_cuda = choose_device(device).type == 'cuda'
    if is_cuda:
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    dist.init_process_group('nccl' if is_cuda else 'gloo')
    try:
        with ExitStack() as stack:
            if dist.get_rank() > 0:
                nowhere = stack.enter_context(open(os.devnull, 'w', encoding='utf-8'))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            yield Processes(dist.get_rank(), world)
    finally:
        dist.destroy_process_group()
