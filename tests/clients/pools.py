"""The connection pools of requests and httpx against examples/site: pools.py BASE FILE, where FILE is something to upload.

Prints `ok CLIENT: WHAT` for each check, and a line that begins otherwise for one that failed.
"""

import asyncio
import concurrent.futures
import json
import sys

import httpx
import requests

BASE, FILE = sys.argv[1:]
with open(FILE, "rb") as file:
    NOISE = file.read()
COUNTED = {"bytes": len(NOISE), "sum": sum(NOISE)}


def check(client, what, found, wanted):
    if found == wanted:
        print(f"ok {client}: {what}")
    else:
        print(f"FAILED {client}: {what}: found {found!r:.500}, wanted {wanted!r:.500}")


def pieces():
    for start in range(0, len(NOISE), 100_000):
        yield NOISE[start : start + 100_000]


def events(lines):
    return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]


def with_requests():
    name = "requests"
    session = requests.Session()
    peers = {session.get(f"{BASE}/peer").text for _ in range(20)}
    check(name, "twenty requests, one connection", len(peers), 1)
    check(name, "an upload", session.put(f"{BASE}/upload", data=NOISE).json(), COUNTED)
    check(name, "an upload in chunks", session.put(f"{BASE}/upload", data=pieces()).json(), COUNTED)
    check(name, "an echo", session.post(f"{BASE}/echo", data=NOISE).content == NOISE, True)
    check(name, "after uploads still the same connection", session.get(f"{BASE}/peer").text in peers, True)
    statuses = [session.get(f"{BASE}{path}").status_code for path in ("/none", "/files/none", "/hello")]
    check(name, "statuses", statuses, [404, 404, 200])
    check(name, "after errors still the same connection", session.get(f"{BASE}/peer").text in peers, True)
    part = session.get(f"{BASE}/files/digits.txt", headers={"Range": "bytes=2-4"})
    check(name, "a range", (part.status_code, part.text), (206, "234"))
    with session.get(f"{BASE}/events", stream=True) as answer:
        check(name, "events", events(answer.iter_lines(decode_unicode=True)), ["1", "2", "3"])
    with session.get(f"{BASE}/download/100000000", stream=True) as answer:
        answer.raw.read(1000)
    check(name, "a download given up, and on", session.get(f"{BASE}/hello").text, "Hello, World!")
    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda number: session.get(f"{BASE}/download/{number * 1000}"), range(200)))
    check(name, "200 requests of 20 threads", [len(answer.content) for answer in answers], [n * 1000 for n in range(200)])


async def with_httpx():
    name = "httpx"
    # On a busy machine 300 requests take longer than the five seconds after which the pool gives up a connection.
    limits = httpx.Limits(max_connections=10, max_keepalive_connections=10, keepalive_expiry=60)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        peers = {(await client.get(f"{BASE}/peer")).text for _ in range(20)}
        check(name, "twenty requests, one connection", len(peers), 1)
        answers = await asyncio.gather(*(client.get(f"{BASE}/peer") for _ in range(300)))
        check(name, "300 at once over at most ten connections", len({answer.text for answer in answers}) <= 10, True)
        check(name, "an upload", (await client.put(f"{BASE}/upload", content=NOISE)).json(), COUNTED)

        async def slowly():
            for piece in pieces():
                yield piece
                await asyncio.sleep(0)

        check(name, "an upload in chunks", (await client.put(f"{BASE}/upload", content=slowly())).json(), COUNTED)
        check(name, "an echo in chunks", (await client.post(f"{BASE}/echo", content=slowly())).content == NOISE, True)
        check(name, "JSON", json.loads((await client.put(f"{BASE}/upload", content=b"a")).text), {"bytes": 1, "sum": 97})
        async with client.stream("GET", f"{BASE}/events", headers={"Last-Event-ID": "3"}) as answer:
            check(name, "events", events([line async for line in answer.aiter_lines()]), ["4", "5", "6"])
        async with client.stream("GET", f"{BASE}/ticks") as answer:
            async for _ in answer.aiter_lines():
                break
        for _ in range(50):
            live = (await client.get(f"{BASE}/live")).text
            if live == "0":
                break
            await asyncio.sleep(0.05)
        check(name, "a stream given up ends at the server", live, "0")
        sizes = [len((await client.get(f"{BASE}/download/{size}?sized=true")).content) for size in (0, 1, 65536, 65537)]
        check(name, "downloads with a length", sizes, [0, 1, 65536, 65537])


with_requests()
asyncio.run(with_httpx())
