"""FastAPI and uvicorn: the same paths as the other servers."""
import asyncio
import os
import socket
import sys

import uvicorn
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

HELLO = "Hello, World!"
BYTES = b"x" * (1 << 20)
EVENT = "data: tick!\n\n"
TICK = 0.005

app = FastAPI()
ran = 0
subscribers = set()


def background_work():
    global ran
    sum(range(100))
    ran += 1


async def work():
    background_work()


@app.get("/plaintext")
async def plaintext():
    return PlainTextResponse(HELLO)


@app.get("/json")
async def json():
    return {"message": HELLO}


@app.get("/background", status_code=202)
async def background(tasks: BackgroundTasks):
    tasks.add_task(work)
    return PlainTextResponse("accepted", status_code=202, background=tasks)


@app.get("/ran")
async def count():
    return PlainTextResponse(str(ran))


@app.get("/medium")
async def medium():
    return Response(BYTES[: 64 << 10], media_type="application/octet-stream")


@app.get("/large")
async def large():
    return Response(BYTES, media_type="application/octet-stream")


@app.post("/upload")
async def upload(request: Request):
    return PlainTextResponse(str(len(await request.body())))


@app.get("/events")
async def events():
    queue = asyncio.Queue()
    subscribers.add(queue)

    async def ticks():
        try:
            while True:
                await queue.get()
                yield EVENT
        finally:
            subscribers.discard(queue)

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def tick():
    while True:
        await asyncio.sleep(TICK)
        for queue in subscribers:
            queue.put_nowait(None)


async def main():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print("127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    ticking = asyncio.create_task(tick())
    config = uvicorn.Config(app, log_level="critical", access_log=False)
    await uvicorn.Server(config).serve(sockets=[listener])
    ticking.cancel()


asyncio.run(main())
