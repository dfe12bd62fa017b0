"""A small UNet in the layout of the published checkpoint, written from its description.

Only what its tensors are called and what they do matters here: it is the other side of the tests
of `msdsr.diffusion.published`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD_CHANNELS = 32


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-5)


def time_features(t: Tensor, channels: int) -> Tensor:
    """Cosines first, then sines, of frequencies from 1 down to (almost) 1/10000."""
    half = channels // 2
    frequencies = torch.tensor([10_000.0 ** (-i / half) for i in range(half)])
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Residual(nn.Module):
    def __init__(self, given: int, out: int, time: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(norm(given), nn.SiLU(), nn.Conv2d(given, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, out))
        self.out_layers = nn.Sequential(
            norm(out), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if given == out else nn.Conv2d(given, out, 1)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        inside = self.in_layers(x) + self.emb_layers(features)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(inside)


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        n, c, h, w = x.shape
        fused = self.qkv(self.norm(x).flatten(2))
        mixed = []
        for head in fused.split(3 * HEAD_CHANNELS, dim=1):
            q, k, v = head.split(HEAD_CHANNELS, dim=1)
            score = torch.einsum("ndi,ndj->nij", q, k) / math.sqrt(HEAD_CHANNELS)
            mixed.append(torch.einsum("nij,ndj->ndi", score.softmax(dim=2), v))
        return x + self.proj_out(torch.cat(mixed, dim=1)).reshape(n, c, h, w)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return super().forward(x)


class LdmUnet(nn.Module):
    """The network; ``attends[i]`` says whether level ``i`` has attention."""

    def __init__(
        self, widths: tuple[int, ...], depth: int, attends: tuple[bool, ...], channels: int = 3
    ) -> None:
        super().__init__()
        self.width = widths[0]
        time = 4 * self.width
        self.time_embed = nn.Sequential(
            nn.Linear(self.width, time), nn.SiLU(), nn.Linear(time, time)
        )

        def block(given: int, level: int) -> list[nn.Module]:
            attention = [Attention(widths[level])] if attends[level] else []
            return [Residual(given, widths[level], time), *attention]

        top, last = widths[0], len(widths) - 1
        blocks: list[list[nn.Module]] = [[First(channels, top, 3, padding=1)]]
        skips = [top]
        for level, width in enumerate(widths):
            for _ in range(depth):
                blocks.append(block(skips[-1], level))
                skips.append(width)
            if level < last:
                blocks.append([Downsample(width)])
                skips.append(width)
        self.input_blocks = nn.ModuleList([nn.ModuleList(parts) for parts in blocks])
        bottom = widths[-1]
        self.middle_block = nn.ModuleList(
            [Residual(bottom, bottom, time), Attention(bottom), Residual(bottom, bottom, time)]
        )
        blocks, given = [], bottom
        for level in reversed(range(len(widths))):
            for j in range(depth + 1):
                blocks.append(block(given + skips.pop(), level))
                given = widths[level]
                if level > 0 and j == depth:
                    blocks[-1].append(Upsample(given))
        self.output_blocks = nn.ModuleList([nn.ModuleList(parts) for parts in blocks])
        self.out = nn.Sequential(norm(top), nn.SiLU(), nn.Conv2d(top, channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        features = self.time_embed(time_features(t, self.width))
        kept = []
        for parts in self.input_blocks:
            for part in parts:
                x = part(x, features)
            kept.append(x)
        for part in self.middle_block:
            x = part(x, features)
        for parts in self.output_blocks:
            x = torch.cat([x, kept.pop()], dim=1)
            for part in parts:
                x = part(x, features)
        return self.out(x)
