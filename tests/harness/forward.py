"""For a demo that stays up: ports of this machine's loopback that lead onto the Lan.

usage: forward.py LAN-PID PORT=ADDRESS:PORT ...
"""

import asyncio
import os
import socket
import sys

from .lan import _join


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def serve(listeners):
    async def answer(reader, writer, target):
        far_reader, far_writer = await asyncio.open_connection(*target)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    servers = [await asyncio.start_server(lambda r, w, t=target: answer(r, w, t), sock=listener)
               for listener, target in listeners]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main():
    listeners = []
    for rule in sys.argv[2:]:
        port, target = rule.split("=")
        host, far = target.rsplit(":", 1)
        listeners.append((socket.create_server(("127.0.0.1", int(port))), (host, int(far))))
    # A socket stays in the namespace where it was made: we listen out here and connect in there.
    _join(f"/proc/{sys.argv[1]}/ns/net")
    print("ready", flush=True)
    os.close(1)
    asyncio.run(serve(listeners))


if __name__ == "__main__":
    main()
