"""Other bytes with the same CRC-32: what a CRC-32 is no protection against."""

from __future__ import annotations

from pathlib import Path

# The generator polynomial of CRC-32, as bits in the order in which they are sent. A CRC is linear:
# whoever adds a multiple of the polynomial to a message leaves the remainder as it is.
_POLYNOMIAL = (0xEDB88320 << 1 | 1).to_bytes(5, "little")


def forged(data: bytes, at: int = 0) -> bytes:
    """`data` with five bytes changed from `at` on, and the same CRC-32."""
    out = bytearray(data)
    for place, byte in enumerate(_POLYNOMIAL, at):
        out[place] ^= byte
    return bytes(out)


def forge(path: Path, *offsets: int) -> None:
    """Change five bytes of a file at each offset, so that every piece keeps its CRC-32."""
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            data = file.read(len(_POLYNOMIAL))
            file.seek(offset)
            file.write(forged(data))
