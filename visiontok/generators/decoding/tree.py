"""Speculative decoding with trees of drafted tokens, which the generator reads in one pass (SpecInfer, arXiv 2305.09781; EAGLE, arXiv 2401.15077)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from visiontok.base.noise import Noise, as_noise, selected
from visiontok.generators.decoding.categorical import probabilities, race
from visiontok.generators.decoding.drafted import DraftedSampler
from visiontok.generators.decoding.drafting import Draft, Drafter, DynamicTree, TreeDrafting
from visiontok.generators.decoding.lantern import Relaxation
from visiontok.generators.decoding.next_token import NextTokenSampler
from visiontok.generators.decoding.tree_logits import TreeLogits

if TYPE_CHECKING:
    from visiontok.generators.condition import ConditionLike
    from visiontok.generators.gpt.model import GPT
    from visiontok.generators.gpt.session import GPTTreeSession
    from visiontok.tokens import TokenLayout


class TreeSampler(DraftedSampler):
    """A drafter proposes a tree of tokens, of which the generator keeps a path, and one more token behind it.

    Without a relaxation a sample has the distribution that it has without a drafter, and with `TopK(1)` the same tokens. Both rules are verified
    against the reference implementation of LANTERN.

    Every sample of a batch goes on at its own pace and has its own draws, so it does not depend on the batch; it depends on the tree. Draws of a
    sample: exponential (1, V) for the first token; then per pass those of the drafting, a uniform one (1,) per drafted token that is looked
    at, and exponential (1, V) for the token behind. The first pass only reads the condition.

    Args:
        drafter: a smaller generator of the same layout, or an `eagle`.
        sampler: guidance and filters.
        tree: how trees are drafted.
        relaxation: LANTERN's; None for the exact rule. It needs codebooks of one size.
    """

    def __init__(
        self, drafter: Drafter, sampler: NextTokenSampler, *, tree: TreeDrafting | None = None, relaxation: Relaxation | None = None
    ) -> None:
        super().__init__(sampler)
        self.drafter, self.relaxation = drafter, relaxation
        self.tree = DynamicTree() if tree is None else tree

    def draw(
        self, model: GPT, condition: ConditionLike, *, num_samples: int | None, layout: TokenLayout, guided: bool, noise: Noise, steps: int
    ) -> Tensor:
        target = model.tree_session(condition, num_samples=num_samples, layout=layout, guided=guided, room=self.tree.size)
        samples, device = target.samples, model.device
        room = max(self.tree.inner, self.tree.size)
        drafter = self.drafter.draft_session(model, condition, samples=samples, layout=layout, guided=guided, room=room)
        plan = model.plan(layout).to(device)
        judged, drafted = (TreeLogits(each, self.sampler, plan) for each in (model, drafter.model))
        noises = [as_noise(selected(noise, torch.tensor([row])), device) for row in range(samples)]
        codes = torch.zeros(samples, steps, dtype=torch.int64, device=device)
        hidden = target.begin()
        drafter.begin(hidden)
        at = torch.zeros(samples, dtype=torch.int64, device=device)
        first = judged.filtered(judged.guided(hidden[:, -1:], at[:, None]), at[:, None])
        for row, source in enumerate(noises):
            codes[row, 0] = race(probabilities(first[row]), source.exponential(1, judged.vocab_size))[0]
        # The tokens that the drafter has not read yet, and what the generator's head read before each of them.
        new, counts, hidden = codes[:, :1], torch.ones_like(at), hidden[:, -1:]
        self.steps, self.passes = self.steps + samples, self.passes + samples
        while bool((at < steps - 1).any()):
            root = new[torch.arange(samples, device=device), counts - 1]
            draft = self.tree.draft(drafter, drafter.advance(new, counts, hidden), root, at, drafted, noises)
            new, paths, counts, hidden = self._verify(target, draft, at, judged, noises, steps)
            target.keep(paths, counts)
            for row, count in enumerate(counts.tolist()):
                codes[row, at[row] + 1 : at[row] + 1 + count] = new[row, :count]
            at = at + counts
            self.steps, self.passes = self.steps + int(counts.sum()), self.passes + int((counts > 0).sum())
        return codes[..., None]

    def _verify(
        self, target: GPTTreeSession, draft: Draft, at: Tensor, logits: TreeLogits, noises: list[Noise], steps: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """New tokens (B, k) behind the roots at steps `at`; the nodes (B, k) before them; how many of them count (B,), 0 where a sample is finished;
        and what the head reads behind these nodes, (B', k, D)."""
        own = at[:, None] + draft.depths
        hidden = target.read(draft.tokens, own, draft.sees)
        following = (own + 1).clamp_max(len(logits.sizes) - 1)
        judged = logits.filtered(logits.guided(hidden, following), following)
        counts, found, kept = torch.zeros_like(at), [], []
        for row, noise in enumerate(noises):
            left = steps - 1 - int(at[row])
            nodes, bonus = draft.tokens.new_zeros(1), draft.tokens.new_zeros(1)
            if left > 0:
                nodes, weights = draft.accept(row, judged[row], noise, self.relaxation)
                bonus = race(weights[None], noise.exponential(1, len(weights)))
                counts[row] = min(len(nodes), left)
            found.append(torch.cat([draft.tokens[row, nodes[1:]], bonus]))
            kept.append(nodes)
        new, paths = (pad_sequence(parts, batch_first=True) for parts in (found, kept))
        rows = torch.arange(len(hidden), device=at.device)[:, None]
        return new, paths, counts, hidden[rows, paths.repeat(len(hidden) // len(paths), 1)]
