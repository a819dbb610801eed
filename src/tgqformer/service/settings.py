"""What a person may set about the service; every limit has its default here and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tgqformer.config import Positive, PositiveFloat, settings
from tgqformer.parallel import cores


@settings
class ServiceSettings:
    """Limits and switches of the service.

    explorer: serve the web pages, too. keys: file of hashed API keys; None leaves everything open.
    open_reads: with keys, reading needs none; only what writes does.
    hosts: names by which clients may call it, in small letters; "*" for any. IP addresses always may.
    origins: of pages whose scripts may read answers and send events, such as https://shop.example.com; "*" for any.
    max_body_bytes: of a request, checked while it streams in. max_pixels: of a picture, checked before it is decoded.
    max_k: most items of one answer, 500 or less. concurrency: requests in work at once; more get 503 at once.
    timeout: seconds until the answer to a request begins, its upload included.
    threads: for searches and for decoding pictures. waiting: jobs that may wait for a thread.
    explorer_threads: of the explorer's own, so that people who look around never slow the API.
    index_cache: bytes of memory for the indexes of a version in LanceDB; None lets it fit itself to them.
    memory_index: search the served version in memory: needs 4 bytes a dimension and 2,000 more for each item at most.
    decodes: pictures being decoded at once, one for two processors, so that others are left to answer; a large one
        takes hundreds of megabytes for that moment.
    decode_queue: uploads that may wait to be decoded; more get 503, so that uploads never fill `concurrency`.
    decode_seconds: of processor time for one picture; a photo of 24 million pixels takes one.
    upload_burst: seconds of processor time that the costly pictures of one client (a key, or an address) may take at
        once; upload_share: of a processor, that they may take for ever. Beyond, they get 429. Usual ones do not count.
    batch: items embedded at once. batch_wait: seconds that the first of a batch waits for others.
    batch_queue: items that may wait to be embedded. batch_workers: batches at once, each with one thread of torch.
    refresh: seconds between looks at what other processes did to the store (swaps, writes).
    optimize_every: transactions of writes after which the table is compacted; each makes a search a little slower.
    head_bytes, head_seconds: of a request's line and headers. body_seconds: for a body to arrive, and for
        an answer to be read.
    connections: open at once; beyond that the one that is idle for longest is closed.
    """

    explorer: bool = True
    keys: Path | None = None
    open_reads: bool = False
    hosts: tuple[str, ...] = ("localhost",)
    origins: tuple[str, ...] = ()
    max_body_bytes: Positive = 16 << 20
    max_pixels: Positive = 24_000_000
    max_k: Annotated[int, Field(gt=0, le=500)] = 500
    concurrency: Positive = 128
    timeout: PositiveFloat = 30.0
    threads: Positive = max(2, cores())
    waiting: Positive = 128
    explorer_threads: Positive = 2
    index_cache: Positive | None = None
    memory_index: bool = True
    decodes: Positive = max(1, cores() // 2)
    decode_queue: Positive = 16
    decode_seconds: Positive = 5
    upload_burst: PositiveFloat = 5.0
    upload_share: PositiveFloat = 0.1
    batch: Positive = 16
    batch_wait: PositiveFloat = 0.004
    batch_queue: Positive = 128
    batch_workers: Positive = 1
    refresh: PositiveFloat = 1.0
    optimize_every: Positive = 100
    head_bytes: Positive = 32 << 10
    head_seconds: PositiveFloat = 15.0
    body_seconds: PositiveFloat = 20.0
    connections: Positive = 4096

    def __post_init__(self) -> None:
        if self.open_reads and self.keys is None:
            raise ValueError("open_reads closes writes to those without a key, and there are no keys: give --keys FILE")
        for name in self.hosts:
            if re.fullmatch(r"\*|[^\s*/:]+", name) is None:
                raise ValueError(f"hosts, --allow-host: {name!r} is no name; write similar.example.com, or '*' for any")
        for origin in self.origins:
            if re.fullmatch(r"\*|https?://[^\s*/]+", origin) is None:
                known = "write https://shop.example.com, or '*' for any"
                raise ValueError(f"origins, --allow-origin: {origin!r} is no origin of a page; {known}")
