"""Seconds of an epoch on several devices, predicted from times of blocks measured on one.

Pure functions: events follow from recurrences, nothing runs. `f` is a forward pass, `r` what
follows it (head, backward, update), and a message takes latency + bytes / bandwidth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from brainage.lfnn.blocks import cut_evenly
from brainage.lfnn.parallel.profile import BlockTimes, backpropagation_s, bound_of
from brainage.lfnn.parallel.transport import BUFFERS

BYTES = 4


@dataclass(frozen=True)
class Link:
    """How fast devices talk.

    Attributes
    ----------
    latency_s : float
        Of an empty message.
    bytes_per_s : float
        Bandwidth.
    reduced_bytes_per_s : float, optional
        Of a sum over devices, as bandwidth of the bus: 2(G − 1)/G of the bytes over the seconds. It
        adds and copies too, on cores that would compute. Absent: `bytes_per_s`.
    """

    latency_s: float = 0.0
    bytes_per_s: float = float("inf")
    reduced_bytes_per_s: float | None = None

    def message_s(self, elements: int) -> float:
        """Seconds that a message of single-precision numbers takes."""
        return self.latency_s + elements * BYTES / self.bytes_per_s

    def sum_s(self, elements: int, devices: int) -> float:
        """Seconds that a sum of single-precision numbers over all devices takes, by a ring.

        A ring sends 2(G − 1)/G of the numbers through each device (Patarasu & Yuan 2009).
        """
        rounds = 2 * (devices - 1)
        bandwidth = self.reduced_bytes_per_s or self.bytes_per_s
        return rounds * (self.latency_s + elements / devices * BYTES / bandwidth)


def group_on_devices(blocks: Sequence[BlockTimes], devices: int) -> list[list[BlockTimes]]:
    """Neighbouring blocks for each device; the busiest one has as little to do as possible."""
    devices = min(devices, len(blocks))
    prefix = [0.0]
    for block in blocks:
        prefix.append(prefix[-1] + block.local_s)
    starts = cut_evenly(len(blocks), devices, lambda m, n: prefix[n] - prefix[m])
    ends = [*starts[1:], len(blocks)]
    return [list(blocks[first:end]) for first, end in zip(starts, ends, strict=True)]


def pipelined_epoch_s(
    blocks: Sequence[BlockTimes], devices: int, steps: int, link: Link | None = None
) -> float:
    """LFNN-ℓ, pipelined: an epoch of so many batches, filling and draining included.

    Device d begins batch t when it has arrived and batch t − 1 is done. It hands its features on
    right after its last block's forward pass, unless `BUFFERS` messages are still on their way: a
    message can leave when the receiver has begun all but `BUFFERS` of the batches before it.
    """
    link = link or Link()
    groups = group_on_devices(blocks, devices)
    begun = [[0.0] * steps for _ in groups]
    free = [0.0] * len(groups)
    for t in range(steps):
        arrived = 0.0
        for d, group in enumerate(groups):
            start = max(arrived, free[d])
            begun[d][t] = start
            inner = sum(block.local_s for block in group[:-1])
            handed = start + inner + group[-1].forward_s
            wait = 0.0
            if d + 1 < len(groups) and t >= 2 * BUFFERS:
                wait = max(0.0, begun[d + 1][t - 2 * BUFFERS] - handed)
            message = link.message_s(group[-1].output_elements)
            arrived = handed + wait + message
            free[d] = handed + wait + group[-1].rest_s
    return free[-1]


def microbatched_epoch_s(
    blocks: Sequence[BlockTimes],
    devices: int,
    steps: int,
    microbatches: int,
    link: Link | None = None,
) -> float:
    """Backpropagation in a 1F1B pipeline (Narayanan et al. 2019, arXiv 1806.03377), flushed a step.

    Each device runs min(devices − d, M) forwards, then one backward and one forward in turn, then
    what is left. A microbatch takes its share of a batch's time, which flatters backpropagation:
    small batches are less efficient. Cuts are those of the blocks.
    """
    link = link or Link()
    groups = _group_for_backpropagation(blocks, devices)
    forward = [sum(b.forward_s for b in group) / microbatches for group in groups]
    backward = [_backward_s(group, blocks) / microbatches for group in groups]
    sizes = [group[-1].output_elements // microbatches for group in groups]
    count = len(groups)
    orders = [_one_f_one_b(count - d, microbatches) for d in range(count)]
    done: dict[tuple[str, int, int], float] = {}
    position, clock = [0] * count, [0.0] * count
    while any(position[d] < len(orders[d]) for d in range(count)):
        for d in range(count):
            while position[d] < len(orders[d]):
                kind, m = orders[d][position[d]]
                ready = _ready_at(kind, d, m, count, done, link, sizes)
                if ready is None:
                    break
                seconds = forward[d] if kind == "f" else backward[d]
                clock[d] = max(clock[d], ready) + seconds
                done[kind, d, m] = clock[d]
                position[d] += 1
    return steps * max(clock)


def _ready_at(
    kind: str,
    d: int,
    m: int,
    count: int,
    done: dict[tuple[str, int, int], float],
    link: Link,
    sizes: Sequence[int],
) -> float | None:
    """When the input of a pass is there; None while it is not yet known."""
    if kind == "f":
        if d == 0:
            return 0.0
        end, size = done.get(("f", d - 1, m)), sizes[d - 1]
    elif d == count - 1:
        return done.get(("f", d, m))
    else:
        end, size = done.get(("b", d + 1, m)), sizes[d]
    return None if end is None else end + link.message_s(size)


def _one_f_one_b(depth: int, microbatches: int) -> list[tuple[str, int]]:
    warm = min(depth, microbatches)
    order = [("f", m) for m in range(warm)]
    for m in range(microbatches):
        order.append(("b", m))
        if warm + m < microbatches:
            order.append(("f", warm + m))
    return order


def _backward_s(group: Sequence[BlockTimes], blocks: Sequence[BlockTimes]) -> float:
    seconds = 0.0
    for block in group:
        seconds += block.rest_s
        seconds -= 0.0 if block is blocks[-1] else block.head_s
        seconds += 0.0 if block is blocks[0] else block.backward_input_s
    return seconds


def _group_for_backpropagation(
    blocks: Sequence[BlockTimes], devices: int
) -> list[list[BlockTimes]]:
    costs = [b.forward_s + _backward_s([b], blocks) for b in blocks]
    devices = min(devices, len(blocks))
    starts = cut_evenly(len(blocks), devices, lambda m, n: sum(costs[m:n]))
    ends = [*starts[1:], len(blocks)]
    return [list(blocks[first:end]) for first, end in zip(starts, ends, strict=True)]


def data_parallel_epoch_s(
    blocks: Sequence[BlockTimes], devices: int, steps: int, link: Link | None = None
) -> float:
    """Backpropagation, every batch shared out; gradients are summed, and nothing hides that."""
    elements = sum(block.parameters for block in blocks)
    shared = (link or Link()).sum_s(elements, devices)
    return steps * (backpropagation_s(blocks) / devices + shared)


def one_device_epoch_s(blocks: Sequence[BlockTimes], steps: int) -> float:
    """Backpropagation on one device."""
    return steps * backpropagation_s(blocks)


def project(
    parts: Sequence[BlockTimes], devices: int, steps: int, link: Link
) -> dict[str, int | float]:
    """Project an epoch of every schedule, with speed-ups over backpropagation on one device."""
    alone = one_device_epoch_s(parts, steps)
    local = pipelined_epoch_s(parts, devices, steps, link)
    baselines = {
        f"one_f_one_b_m{m}": microbatched_epoch_s(parts, devices, steps, m, link)
        for m in (4, 8, 32)
    }
    baselines["data_parallel"] = data_parallel_epoch_s(parts, devices, steps, link)
    bound = bound_of(parts)
    return {
        "blocks": len(parts),
        "devices": devices,
        "bp_one_device_s": alone,
        "lfnn_l_pipelined_s": local,
        **{f"{name}_s": seconds for name, seconds in baselines.items()},
        "lfnn_l_speedup": alone / local,
        **{f"{name}_speedup": alone / seconds for name, seconds in baselines.items()},
        "bound_speedup": bound.speedup,
        "imbalance": bound.imbalance,
    }
