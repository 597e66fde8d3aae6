"""The part codec's Huffman coder against zlib's Huffman-only strategy, on the same 2,000 blocks of 5120 bytes.

Speeds are of one thread, in MB of decoded data; wall time beside CPU time, because a shared machine stretches only the
former. Sizes are compared twice: the payload alone (what a part file grows by: its header has the table's 128 bytes in
any case), and payload plus table, as if it were a stream of its own. zlib's blocks hold their own (packed) table.
"""

from __future__ import annotations

import sysconfig
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from libreseed.auraseal.huffman_decode import CodedBlock, decode_blocks
from libreseed.auraseal.huffman_encode import encode_blocks

BLOCK, BLOCKS, ROUNDS = 5120, 2000, 5


def corpora() -> dict[str, bytes]:
    text = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    machine = b"".join(path.read_bytes() for path in sorted(Path(np.__file__).parent.glob("_core/*.so")))
    skewed = np.random.default_rng(1).geometric(0.2, BLOCK * BLOCKS).clip(0, 255).astype(np.uint8).tobytes()
    mixed = b"".join(
        part for at in range(0, 10**7, 65536) for part in (text[at : at + 65536], machine[at : at + 65536])
    )
    return {"Python source": text, "machine code": machine, "both in turn": mixed, "geometric": skewed}


def fill(data: bytes) -> list[bytes]:
    data = (data * (BLOCK * BLOCKS // len(data) + 1))[: BLOCK * BLOCKS]
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]


def by_zlib(block: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(block) + coder.flush()


def speed(call: Callable[[], object]) -> str:
    wall, cpu = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
    megabytes = BLOCK * BLOCKS / 1e6
    median = sorted(wall)[ROUNDS // 2], sorted(cpu)[ROUNDS // 2]
    rates = [megabytes / seconds for seconds in (*median, min(wall))]
    return f"{rates[0]:6.1f} MB/s ({rates[1]:6.1f} by CPU time, best {rates[2]:6.1f})"


def main() -> None:
    for name, data in corpora().items():
        blocks = fill(data)
        coded = encode_blocks(blocks)
        work = [CodedBlock(table, payload, BLOCK) for table, payload in coded]
        if decode_blocks(work) != blocks:
            raise SystemExit("the round trip failed")
        payload = sum(len(payload) for _, payload in coded)
        theirs = sum(len(by_zlib(block)) for block in blocks)
        print(f"{name}: {len(blocks)} blocks of {BLOCK} bytes")
        print(f"  encode  {speed(lambda blocks=blocks: encode_blocks(blocks))}")
        print(f"  decode  {speed(lambda work=work: decode_blocks(work))}")
        print(f"  zlib    {speed(lambda blocks=blocks: [by_zlib(block) for block in blocks])}, Huffman only, encode")
        print(f"  size    {payload / len(blocks) / BLOCK:.4f} payload, zlib {theirs / len(blocks) / BLOCK:.4f}", end="")
        print(f"; to zlib's: {payload / theirs:.4f} payload, {(payload + 128 * len(blocks)) / theirs:.4f} with table")


if __name__ == "__main__":
    main()
