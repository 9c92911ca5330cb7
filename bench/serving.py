"""Serving over HTTP: our endpoint beside llama.cpp's server, and beside transformers in static batches and with its continuous
batching, on SmolLM2-135M. Requests hold ids, so that nobody tokenises, and ask for as many tokens as they are to get."""

import asyncio
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2 as httpx

from common import ENVIRONMENT, PALIMPSEST, ROOT, Side
from generation import MODEL

VOCABULARY = 49_152
# (requests at once, targets: ours in tokens/s by that of llama.cpp, and of transformers' continuous batching).
CASES = [(1, 0.95, 2.0), (16, 1.0, 2.0), (64, 1.0, 2.0)]
PROMPT, NEW = 128, 64
# A load like life: how many requests, and what they are drawn from.
REQUESTS = int(os.environ.get("PALIMPSEST_LOAD_REQUESTS", 96))
PROMPTS, OUTPUTS = (16, 512), (8, 256)
SLOTS = 64
TINY_REQUESTS = 2000
# The share of the time in which the engine has requests that it does not spend in the model.
MOST_OUTSIDE = 0.03


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Endpoint:
    """A server that streams what a request gets."""

    def __init__(self, name, command, ready, environment=None):
        self.name, self.port = name, free_port()
        words = [str(word).replace("PORT", str(self.port)) for word in command]
        self.process = subprocess.Popen(words, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while True:
            if self.process.poll() is not None or time.monotonic() - began > 120:
                sys.exit(f"{name} does not begin to serve: {' '.join(words)}")
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}{ready}").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.05)

    def close(self):
        self.process.terminate()
        self.process.wait()

    def serve(self, load):
        """When the first token and the last came of each request, in seconds from its arrival, and when all were answered."""
        return asyncio.run(self._serve(load))

    async def _serve(self, load):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=None, limits=limits) as client:
            began = time.perf_counter()

            async def one(arrival, ids, new):
                await asyncio.sleep(arrival - (time.perf_counter() - began))
                arrived = time.perf_counter()
                first, got = None, 0
                async with client.stream("POST", self.path, json=self.body(ids, new)) as answer:
                    if answer.status_code != 200:
                        sys.exit(f"{self.name}: {answer.status_code} {await answer.aread()}")
                    async for line in answer.aiter_lines():
                        if line.startswith("data: {"):
                            first = first or time.perf_counter()
                            got = self.tokens(json.loads(line[6:])) or got
                if got != new:
                    sys.exit(f"{self.name}: {got} tokens, not {new}")
                return first - arrived, time.perf_counter() - arrived

            answers = await asyncio.gather(*(one(*request) for request in load))
            return answers, time.perf_counter() - began


class Ours(Endpoint):
    path = "/v1/completions"

    def __init__(self, threads, model=MODEL):
        super().__init__("palimpsest", [PALIMPSEST, "serve", "--model", model, "--model-name", "served", "--port", "PORT", "--threads",
                                        threads, "--max-sequences", SLOTS, "--cache-memory", 4096, "--precision", "float32"],
                         "/readyz", ENVIRONMENT)

    def body(self, ids, new):
        return {"model": "served", "prompt": ids, "max_tokens": new, "temperature": 0, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}

    def tokens(self, event):
        return (event.get("usage") or {}).get("completion_tokens")

    def model_seconds(self):
        page = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        lines = [line for line in page.splitlines() if line.startswith("palimpsest_inference_engine_model_seconds_total")]
        return float(lines[0].split()[-1])

    def share_outside_the_model(self, load):
        before = self.model_seconds()
        _, seconds = self.serve(load)
        return 1 - (self.model_seconds() - before) / seconds


class Llama(Endpoint):
    path = "/completion"

    def __init__(self, threads):
        folder = Path(subprocess.run([ROOT / "bench/llama_server.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
        super().__init__("llama-server", [folder / "llama-server", "-m", folder / "smollm2-135m.gguf", "-np", SLOTS, "-c", SLOTS * 768,
                                          "-t", threads, "-tb", threads, "--host", "127.0.0.1", "--port", "PORT", "--kv-unified",
                                          "-ctk", "f32", "-ctv", "f32"], "/health")

    def body(self, ids, new):
        return {"prompt": ids, "n_predict": new, "temperature": 0, "ignore_eos": True, "stream": True}

    def tokens(self, event):
        return event.get("tokens_predicted") if event.get("stop") else None


class Transformers(Side):
    """transformers in a process of its own: static batches in order of arrival, or its continuous batching."""

    def __init__(self, threads, kind):
        command = [sys.executable, Path(__file__).with_name("serving_peer.py"), kind, MODEL, threads]
        super().__init__(f"transformers, {kind}", command, {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads)})

    def serve(self, load):
        answer = self.ask(json.dumps(load))
        return answer["answers"], answer["seconds"]


def tiny_requests():
    """Requests a second of a model of 260,000 parameters, from 64 connections, and the 99th percentile of their time: what the server
    itself takes. wrk's words are "Requests/sec: N" and "99% N ms"."""
    if not shutil.which("wrk"):
        sys.exit("there is no wrk, which makes the tiny requests: install it")
    ours = Ours(1, MODEL.with_name("stories260k"))
    body = json.dumps({"model": "served", "prompt": [1, 300, 301, 302], "max_tokens": 1, "temperature": 0})
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = '{body}'\n")
        script.flush()
        said = subprocess.run(["wrk", "-t1", "-c64", "-d10s", "--latency", "-s", script.name,
                               f"http://127.0.0.1:{ours.port}{ours.path}"], check=True, stdout=subprocess.PIPE, text=True).stdout
    ours.close()
    if "Non-2xx" in said:
        sys.exit(f"not all requests were answered: {said}")
    words = said.split()
    return float(words[words.index("Requests/sec:") + 1]), words[words.index("99%") + 1]


def ids(draw, count):
    return [draw.randrange(100, VOCABULARY) for _ in range(count)]


def at_once(count, seed):
    draw = random.Random(seed)
    return [(0.0, ids(draw, PROMPT), NEW) for _ in range(count)]


def like_life(count, seed, rate=None):
    """Requests that arrive by a Poisson process of so many a second, or all at once."""
    draw, now, load = random.Random(seed), 0.0, []
    for _ in range(count):
        load.append((now, ids(draw, draw.randint(*PROMPTS)), draw.randint(*OUTPUTS)))
        now += draw.expovariate(rate) if rate else 0.0
    return load


def tokens(load):
    return sum(new for *_, new in load)


def p95(values):
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def rates(sides, loads):
    """Tokens a second of each side, the median over the loads, which all take in turns."""
    measured = {side.name: [] for side in sides}
    for number, load in enumerate(loads):
        for side in sides if number % 2 == 0 else sides[::-1]:
            measured[side.name].append(tokens(load) / side.serve(load)[1])
    return {name: statistics.median(each) for name, each in measured.items()}


def suite(machine):
    threads = os.cpu_count()
    rows = []

    def row(name, figure, ours, others):
        for peer, target, theirs, speed in others:
            print(f"{name:34} {figure:10} {peer:30} {speed:6.2f} {target:7.2f} {ours:9.2f} {theirs:9.2f}", flush=True)
            rows.append({"name": f"{name}, {peer}", "figure": figure, "target": target, "speed": speed, "ours": {"figure": ours},
                         "theirs": {"figure": theirs}})

    rate, slowest = tiny_requests()
    print(f"tiny requests: {rate:.0f} a second (at least {TINY_REQUESTS}), 99 % within {slowest}", flush=True)
    rows.append({"name": "tiny requests a second", "speed": rate, "target": TINY_REQUESTS, "p99": slowest})
    print(f"{'':34} {'':10} {'beside':30} {'speed':>6} {'target':>7} {'ours':>9} {'theirs':>9}")
    ours, llama = Ours(threads), Llama(threads)
    static, continuous = Transformers(threads, "static"), Transformers(threads, "continuous")
    for side in (ours, llama, static, continuous):
        side.serve(at_once(2, seed=0))
    for count, of_llama, of_continuous in CASES:
        loads = [at_once(count, seed) for seed in range(1, 4)]
        got = rates([ours, llama, continuous], loads)
        if count == CASES[-1][0]:
            share = ours.share_outside_the_model(at_once(count, seed=4))
            print(f"{'time outside the model, ' + str(count) + ' at once':45} {share:.3f} (at most {MOST_OUTSIDE})", flush=True)
            rows.append({"name": f"time outside the model, {count} at once", "share": share, "most": MOST_OUTSIDE})
        mine = got[ours.name]
        row(f"{count} at once, {PROMPT} + {NEW} tokens", "tokens/s", mine,
            [(side.name, target, got[side.name], mine / got[side.name])
             for side, target in ((llama, of_llama), (continuous, of_continuous))])
    continuous.close()
    got = rates([ours, llama, static], [like_life(REQUESTS, seed) for seed in (11, 12)])
    mine = got[ours.name]
    row("a load like life, saturated", "tokens/s", mine,
        [(side.name, target, got[side.name], mine / got[side.name]) for side, target in ((llama, 1.0), (static, 2.0))])
    # A request brings so many tokens on average.
    rate = 0.8 * min(got.values()) / (sum(OUTPUTS) / 2)
    load = like_life(REQUESTS, 13, rate)
    waits = {side.name: p95([first for first, _ in side.serve(load)[0]]) for side in (ours, llama, static)}
    mine = waits[ours.name]
    row(f"the same, {rate:.2f} a second", "p95 TTFT", mine,
        [(side.name, target, waits[side.name], waits[side.name] / mine) for side, target in ((llama, 1.0), (static, 3.0))])
    for side in (ours, llama, static):
        side.close()
    return rows
