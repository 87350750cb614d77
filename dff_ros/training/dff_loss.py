# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The loss of joint training: labels, self-distillation and exact flow, through warp and correction.

Gradients pass through equation (3) to flow, scale map and key feature, as equation (4) has it. Each term is
a sum divided by a total that the data alone determine. Totals are added up over all parts of a batch first,
so that parts and processes together give what the whole batch gives.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.data.classes import IGNORE_ID
from dff_ros.geometry import upsample_matrix
from dff_ros.nets.dff import DffModel, Propagated
from dff_ros.nets.flownet import FlowPyramid
from dff_ros.nets.light import LightFeatures
from dff_ros.nets.looking import Look, split
from dff_ros.nets.rfcn import DetectionHead
from dff_ros.nets.segmentation import SegmentationHead, upsample_scores
from dff_ros.training.detection_loss import BoxLoss
from dff_ros.training.dff_config import LossConfig
from dff_ros.training.dff_pairs import Pairs
from dff_ros.training.flow_loss import multi_scale_loss, scale_totals
from dff_ros.training.keeping import Teacher
from dff_ros.training.loss_totals import TINY, Totals, cells_inside

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """What learns: the per-frame network N, the flow net F; whether anything is propagated at all."""

    per_frame: bool
    flow: bool
    propagation: bool = True


@dataclass(frozen=True)
class _Answer:
    """A feature of the current frames that move, and its class scores (None: no segmentation)."""

    feature: Tensor
    scores: Tensor | None


class JointLoss(nn.Module):
    """Loss of a `DffModel` on pairs; `class_weight_K` multiplies each class in the cross entropies. The
    `teacher` is one whose scores are kept.
    """

    class_weight: Tensor

    def __init__(
        self,
        model: DffModel,
        weights: LossConfig,
        trained: Trained,
        class_weight_K: Tensor,
        bf16: bool,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._teacher = teacher if trained.per_frame and weights.keep else None
        self.register_buffer('class_weight', class_weight_K)
        self._weights, self._trained, self._bf16 = weights, trained, bf16
        self._matrices: dict[int, Tensor] = {}
        self._has_scores = SegmentationHead.task in model.spec.tasks
        has_boxes = DetectionHead.task in model.spec.tasks and weights.boxes > 0
        self._boxes = BoxLoss(model, self._autocast) if has_boxes else None
        # With a correction, what the warped and the new feature give by themselves is judged too.
        self._shares = {'': 1.0} if trained.propagation else {}
        if trained.propagation and model.correction is not None:
            further = {'warped_': weights.warped, 'new_': weights.new}
            self._shares |= {prefix: share for prefix, share in further.items() if share}
        self._names = self._term_names()

    def totals(self, pairs: Pairs) -> Totals:
        """What `forward` divides by, if these pairs are all there is."""
        weight_of_label = F.pad(self.class_weight, (0, IGNORE_ID + 1 - len(self.class_weight)))
        scales = () if self.model.flow_net is None else self.model.flow_net.scales
        zero = self.class_weight.new_zeros(())
        flow_S = (
            scale_totals(scales, pairs.is_visible) if pairs.exact and scales else zero.expand(len(scales))
        )
        labels = pairs.labels[pairs.labelled].flatten()
        inside = cells_inside(pairs.is_inside, self.model.score_stride)
        return Totals(
            (torch.bincount(labels, minlength=IGNORE_ID + 1) * weight_of_label).sum(),
            inside.sum(),
            inside[: pairs.num_moving].sum(),
            zero + pairs.num_moving,
            zero + sum(truth is not None for truth in pairs.truths),
            flow_S,
        )

    def forward(self, pairs: Pairs, packed_totals: Tensor) -> tuple[Tensor, Terms]:
        """The loss, and its terms before their weights, detached; `packed_totals` are those of all that
        these pairs are part of. `agreement` is the percentage of cells where the propagated class is the
        direct one.
        """
        totals, weights, num_moving = Totals.unpacked(packed_totals), self._weights, pairs.num_moving
        images = self._images(pairs)
        with self._autocast():
            current, key = split(self.model.look(images), num_moving)
        direct, key_feature = self._features(images, num_moving)
        subject = _subject(current, key, num_moving)
        scores = self._scores(direct, subject)
        terms: Terms = {name: totals.pairs.new_zeros(()) for name in self._names}
        # It has a gradient even if nothing else does: processes must all take part in every step.
        loss = 0.0 * next(p for p in self.model.parameters() if p.requires_grad).flatten()[0]
        loss = loss + self._of_direct(direct, scores, subject, pairs, totals, terms)
        if self._teacher is not None and scores is not None:
            with self._autocast():
                kept = self._teacher.scores(_joined(images[:num_moving], images[2 * num_moving :]))
            terms['keep'] = self._divergence(scores, kept, pairs) / totals.all_cells
            loss = loss + weights.keep * terms['keep']
        if num_moving:
            taught = None if scores is None else scores[:num_moving].detach()
            direct_answer = _Answer(direct[:num_moving].detach(), taught)
            key = split(key, num_moving)[0]
            pyramid = self._pyramid(current, key)
            made = self._propagate(current, key, key_feature[:num_moving], pyramid, pairs.hand_flow)
            loss = loss + self._of_propagation(made, current, direct_answer, pairs, totals, terms)
            if pyramid is not None and self._trained.flow and weights.flow:
                terms['flow'] = self._flow_error(pyramid, pairs, totals)
                loss = loss + weights.flow * terms['flow']
        return loss, {name: term.detach() for name, term in terms.items()}

    def _scores(self, feature: Tensor, look: Look) -> Tensor | None:
        if not self._has_scores:
            return None
        with self._autocast():
            return self.model.scores(feature, look).float()

    def _of_direct(
        self,
        direct: Tensor,
        scores: Tensor | None,
        subject: Look,
        pairs: Pairs,
        totals: Totals,
        terms: Terms,
    ) -> Tensor:
        """The weighted sum of the terms of the direct output, which are added to `terms`. What does not move
        is propagated as it is.
        """
        weights, num_moving = self._weights, pairs.num_moving
        found: list[tuple[str, float, Tensor, Tensor]] = []  # name, weight, of what moves, of what does not
        if scores is not None:
            moving, still = (
                self._cross_entropy(part, pairs, numbers) / totals.pixels
                for part, numbers in (
                    (scores[:num_moving], range(num_moving)),
                    (scores, range(num_moving, len(pairs.labels))),
                )
            )
            found.append(('', 1.0, moving, still))
        if self._boxes is not None:
            of_moving, of_still = split(subject, num_moving)
            moving, still = (
                self._boxes(feature, look, truths, pairs.size) / totals.boxed
                for feature, look, truths in (
                    (direct[:num_moving], of_moving, pairs.truths[:num_moving]),
                    (direct[num_moving:], of_still, pairs.truths[num_moving:]),
                )
            )
            found.append(('_boxes', weights.boxes, moving, still))
        loss = totals.pairs.new_zeros(())
        for name, weight, moving, still in found:
            if weights.per_frame:
                terms[f'per_frame{name}'] = moving + still
                loss = loss + weight * weights.per_frame * terms[f'per_frame{name}']
            for prefix, share in self._shares.items():
                terms[f'{prefix}propagated{name}'] = still
                loss = loss + share * weight * weights.propagated * still
        return loss

    def _term_names(self) -> list[str]:
        """All figures of a loss: every part of a batch and every process has the same."""
        tasks = ([''] if self._has_scores else []) + ([] if self._boxes is None else ['_boxes'])
        names = [f'per_frame{task}' for task in tasks] if self._weights.per_frame else []
        figures = [f'propagated{task}' for task in tasks] + ['feature']
        figures += ['distill', 'agreement'] if self._has_scores else []
        names += [prefix + name for prefix in self._shares for name in figures]
        names += ['keep'] if self._has_scores and self._teacher is not None else []
        return names + ['flow'] if self._trained.flow and self._weights.flow else names

    def _images(self, pairs: Pairs) -> Tensor:
        """Current frames that move, then all key frames, normalised."""
        images = torch.cat((pairs.current, pairs.key)).permute(0, 3, 1, 2)
        return self.model.normalise(images).contiguous(memory_format=torch.channels_last)

    def _features(self, images: Tensor, num_moving: int) -> tuple[Tensor, Tensor]:
        """Direct features of the frames that labels are for, and key features; each where its loss needs a
        gradient with one.
        """
        net = self.model.feature_net
        if self._trained.per_frame and not self._weights.per_frame and num_moving:
            with self._autocast():
                keys = net(images[num_moving:])
            # A context of its own: casts of weights made without a gradient are kept until its end.
            with self._autocast(), torch.no_grad():
                directs = net(images[:num_moving])
        else:
            with self._autocast(), nullcontext() if self._trained.per_frame else torch.no_grad():
                directs, keys = net(images).split((num_moving, len(images) - num_moving))
        return _joined(directs, keys[num_moving:]), keys

    def _pyramid(self, current: Look, key: Look) -> FlowPyramid | None:
        if self.model.flow_net is None:
            return None
        with self._autocast():
            return self.model.flow_pyramid(current, key)

    def _propagate(
        self,
        current: Look,
        key: Look,
        key_feature: Tensor,
        pyramid: FlowPyramid | None,
        hand_flow: Tensor | None,
    ) -> Propagated:
        flow, scale_map = hand_flow, None
        if pyramid is not None and self.model.flow_net is not None:
            flow, scale_map = self.model.flow_net.answer(pyramid)
        if flow is None:
            raise TypeError('a model without a flow net takes flow that was made by hand')
        with self._autocast():
            return self.model.propagate_by(current, key, key_feature, flow, scale_map)

    def _of_propagation(
        self,
        made: Propagated,
        current: Look,
        direct: _Answer,
        pairs: Pairs,
        totals: Totals,
        terms: Terms,
    ) -> Tensor:
        """The weighted sum of the terms of propagation, which are added to `terms`."""
        features = {'': made.feature, 'warped_': made.warped}
        if made.new is not None:
            features['new_'] = F.relu(made.new)
        weights = {name: getattr(self._weights, name) for name in ('propagated', 'distill', 'feature')}
        weights['propagated_boxes'] = self._weights.propagated * self._weights.boxes
        loss = totals.pairs.new_zeros(())
        for prefix, share in self._shares.items():
            feature = features[prefix]
            found = self._answer_terms(
                _Answer(feature, self._scores(feature, current)), direct, pairs, totals
            )
            if self._boxes is not None:
                truths = pairs.truths[: pairs.num_moving]
                found['propagated_boxes'] = self._boxes(feature, current, truths, pairs.size) / totals.boxed
            for name, term in found.items():
                terms[prefix + name] = terms[prefix + name] + term
                loss = loss + share * weights.get(name, 0.0) * term
        return loss

    def _answer_terms(self, answer: _Answer, direct: _Answer, pairs: Pairs, totals: Totals) -> Terms:
        return {
            **self._feature_terms(answer, direct, pairs, totals),
            **self._score_terms(answer, direct, pairs, totals),
        }

    def _score_terms(self, answer: _Answer, direct: _Answer, pairs: Pairs, totals: Totals) -> Terms:
        if answer.scores is None or direct.scores is None:
            return {}
        inside = cells_inside(pairs.is_inside[: pairs.num_moving], self.model.score_stride)
        labelled = self._cross_entropy(answer.scores, pairs, range(pairs.num_moving))
        is_equal = answer.scores.argmax(1) == direct.scores.argmax(1)
        return {
            'propagated': labelled / totals.pixels,
            'distill': self._divergence(answer.scores, direct.scores, pairs) / totals.cells,
            'agreement': 100 * (is_equal * inside).sum() / totals.cells,
        }

    def _divergence(self, student: Tensor, teacher: Tensor, pairs: Pairs) -> Tensor:
        """KL divergence from the teacher's classes, summed over the cells that are no padding, of all pairs
        or of those that move.
        """
        scores = (F.log_softmax(student, 1), F.log_softmax(teacher, 1))
        divergence = F.kl_div(*scores, reduction='none', log_target=True).sum(1)
        inside = cells_inside(pairs.is_inside[: len(divergence)], self.model.score_stride)
        return (divergence * inside).sum()

    def _feature_terms(self, answer: _Answer, direct: _Answer, pairs: Pairs, totals: Totals) -> Terms:
        weight = cells_inside(pairs.is_inside[: pairs.num_moving], self.model.stride)[:, None]
        square = (weight * (answer.feature.float() - direct.feature.float()).square()).flatten(1).sum(1)
        scale = (weight * direct.feature.float().square()).flatten(1).sum(1)
        return {'feature': (square / scale.clamp_min(TINY)).sum() / totals.pairs}

    def _flow_error(self, pyramid: FlowPyramid, pairs: Pairs, totals: Totals) -> Tensor:
        flow_net = self.model.flow_net
        if flow_net is None or not pairs.exact:
            return totals.pairs.new_zeros(())
        raw_flows = tuple(raw_flow[pairs.exact] for raw_flow in pyramid.raw_flows)
        return multi_scale_loss(raw_flows, flow_net.scales, pairs.flow, pairs.is_visible, totals.flow_S)

    def _cross_entropy(self, scores: Tensor, pairs: Pairs, numbers: range) -> Tensor:
        """Weighted sum over the labelled pixels of those pairs; `scores` are of the first pairs or all."""
        labelled = [number for number in pairs.labelled if number in numbers]
        if not labelled:
            return scores.new_zeros(())
        rows, columns = (self._matrix(side) for side in pairs.size)
        # Interpolation and softmax stay in float32: 8 bits are too few to sum over a crop's pixels.
        full = upsample_scores(scores[labelled], rows, columns.T)
        target = pairs.labels[labelled].long()
        return F.cross_entropy(full, target, self.class_weight, ignore_index=IGNORE_ID, reduction='sum')

    def _matrix(self, num_pixels: int) -> Tensor:
        if num_pixels not in self._matrices:
            matrix = upsample_matrix(num_pixels, num_pixels, self.model.score_stride)
            self._matrices[num_pixels] = torch.from_numpy(matrix.copy()).to(self.class_weight.device)
        return self._matrices[num_pixels]

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.class_weight.device.type, torch.bfloat16, enabled=self._bf16)


def _subject(current: Look, key: Look, num_moving: int) -> Look:
    """The looks at the frames that labels are for: current ones, then keys that are their own current one."""
    rest = split(key, num_moving)[1]
    light = None
    if current.light is not None and rest.light is not None:
        light = LightFeatures(*map(_joined, current.light, rest.light))
    return Look(_joined(current.image, rest.image), light)


def _joined(first: Tensor, rest: Tensor) -> Tensor:
    if not len(rest):
        return first
    return torch.cat((first, rest)) if len(first) else rest
