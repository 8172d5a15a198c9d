"""Messages between processes, through a socket: arrays and tensors go as they lie in memory."""

import io
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

_ALIGNED = 64
"""Bytes at whose multiples each array of a message begins, so that every element type may lie there."""
_LENGTH = struct.Struct("<Q")


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays, whose bytes are left out of the stream."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if type(value) is torch.Tensor else NotImplemented


def packed(value: Any) -> list[bytes | memoryview]:
    """Parts to send one after the other: a length, what has it, and the arrays that belong to it."""
    arrays: list[memoryview] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=lambda array: arrays.append(array.raw())).dump(value)
    head = pickle.dumps((stream.getvalue(), [array.nbytes for array in arrays]))
    padded = [part for array in arrays for part in (array, bytes(-array.nbytes % _ALIGNED))]
    return [_LENGTH.pack(len(head)), head, *padded]


def send(connection: socket.socket, parts: Sequence[bytes | memoryview]) -> None:
    for part in parts:
        connection.sendall(part)


def receive(connection: socket.socket) -> Any:
    """The next message.

    Raises:
        EOFError: if the other side has gone.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    stream, sizes = pickle.loads(_exactly(connection, length))
    padded = [-(-size // _ALIGNED) * _ALIGNED for size in sizes]
    content, arrays, start = _exactly(connection, sum(padded)), [], 0
    for size, step in zip(sizes, padded, strict=True):
        arrays.append(content[start : start + size])
        start += step
    return pickle.loads(stream, buffers=arrays)


def _exactly(connection: socket.socket, count: int) -> memoryview:
    content = memoryview(np.empty(count, dtype=np.uint8))  # type: ignore[arg-type]  # not zeroed first, as a bytearray
    done = 0
    while done < count:
        # all at once: each call has to wait for the interpreter that computes meanwhile
        received = connection.recv_into(content[done:], count - done, socket.MSG_WAITALL)
        if received == 0:
            raise EOFError
        done += received
    return content
