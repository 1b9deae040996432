"""The live side of the message page: WebSockets that never lose, double or reorder a message.

Nothing is handed from the writer to the readers. One change stream a process says only «this conversation has grown»,
and each connection then reads the log on from the last number it has sent. So a wake-up too many is harmless, whatever
happened to the change stream is mended by waking everybody once, and a client that comes back with the last number it
saw has missed nothing. A slow client holds up only itself: nothing is queued for it but answers to its own frames, and
a send that stalls ends the connection.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import orjson
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from simple_websocket import ConnectionClosed, Server

from eventkit.store import StoreUnavailable
from services.consult.handlers import conversation_stream
from services.consult.read_model import MARKS

log = logging.getLogger(__name__)

PING_SECONDS = 20
STALLED_SECONDS = 5  # without a byte taken from a full send buffer
RETRY_SECONDS = 0.5
LARGEST_FRAME = 32 * 1024
SEND_BUFFER = 256 * 1024  # of the kernel, a connection; more than this is never waiting for a client
WAITING_FRAMES = 64  # received and not handled yet, then the sender is flooding us
WAITING_ANSWERS = 64
LINES_OF_ONE = 8  # open connections of one account or doctor, a process
OPTIONS = {
    "subprotocols": ["bearer"],
    "ping_interval": PING_SECONDS,
    "max_message_size": LARGEST_FRAME,
    "thread_class": functools.partial(threading.Thread, daemon=True),
}

GOING_AWAY, INTERNAL, TOKEN_ENDED, TRY_LATER = 1001, 1011, 4401, 4503

Page = Callable[[int], list[dict[str, Any]]]
Frame = Callable[[str | bytes], dict[str, Any]]
Marked = Callable[[], dict[str, dict[str, int]]]


class Hub:
    """The open connections of this process, and the one thread that wakes them when a message is in the log. The thread
    starts with the first connection, so after gunicorn's fork. `most` bounds the connections, since each holds one
    of the server's threads."""

    def __init__(self, commits: Collection[dict[str, Any]], message_type: str, most: int) -> None:
        self._commits = commits.with_options(read_concern=ReadConcern("majority"))
        self._message_type = message_type
        self._most = most
        self._lines: defaultdict[str, set[Line]] = defaultdict(set)
        self._subjects: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._watching: threading.Thread | None = None
        self._closed = threading.Event()

    def join(self, line: Line) -> bool:
        """Whether there is room. Only after this may the line read, or a message could fall between the two."""
        with self._lock:
            full = self._subjects.total() >= self._most or self._subjects[line.subject] >= LINES_OF_ONE
            if full or self._closed.is_set():
                return False
            self._lines[line.stream].add(line)
            self._subjects[line.subject] += 1
            if self._watching is None:
                self._watching = threading.Thread(target=self._watch, name="live", daemon=True)
                self._watching.start()
        return True

    def leave(self, line: Line) -> None:
        with self._lock:
            self._lines[line.stream].discard(line)
            if not self._lines[line.stream]:
                del self._lines[line.stream]
            self._subjects[line.subject] -= 1
            if not self._subjects[line.subject]:
                del self._subjects[line.subject]

    def close(self) -> None:
        """Send everybody away, to another process; for a server that is asked to stop."""
        self._closed.set()
        for line in self._all():
            line.close(GOING_AWAY, "server restarts, come back with your last number")

    def _all(self) -> list[Line]:
        with self._lock:
            return [line for lines in self._lines.values() for line in lines]

    def _watch(self) -> None:
        pipeline: list[dict[str, Any]] = [
            {"$match": {"$or": [
                {
                    "ns.coll": self._commits.name, "operationType": "insert",
                    "fullDocument.events.type": self._message_type,
                },
                {"ns.coll": MARKS, "operationType": {"$in": ["insert", "update"]}},
            ]}},
            {"$project": {"fullDocument.events.stream": 1, "documentKey": 1, "ns": 1}},
        ]
        while not self._closed.is_set():
            try:
                with self._commits.database.watch(pipeline, max_await_time_ms=1000) as changes:
                    self._settle()
                    for line in self._all():
                        line.wake()
                    while not self._closed.is_set():
                        if change := changes.try_next():
                            self._wake(_grown(change))
            except Exception as error:  # no connection may go deaf, whatever it was
                log.warning("live: change stream: %s; opening it again", type(error).__name__)
                self._closed.wait(RETRY_SECONDS)

    def _settle(self) -> None:
        """Wait until all that was written before the change stream began can be read. Readers see what a majority
        holds, and an older write may get there only now, without the change stream telling."""
        database = self._commits.database
        with database.client.start_session(causal_consistency=True) as session:
            session.advance_operation_time(database.command("ping")["operationTime"])
            self._commits.find_one({"_id": ""}, {"_id": 1}, session=session)

    def _wake(self, streams: set[str]) -> None:
        with self._lock:
            lines = [line for stream in streams for line in self._lines.get(stream, ())]
        for line in lines:
            line.wake()


def _grown(change: dict[str, Any]) -> set[str]:
    """The conversations that a change is about."""
    if change["ns"]["coll"] == MARKS:
        return {conversation_stream(change["documentKey"]["_id"])}
    return {event["stream"] for event in change["fullDocument"]["events"]}


class Line:
    """One connection: the server's thread handles what the client sends, a second one sends.

    `page(after)` reads messages, `marked()` how far they were read, `frame(content)` answers a frame, `until` is the
    wall time at which the token ends.
    """

    def __init__(
        self, ws: Server, visit_id: str, subject: str, after: int, until: float, page: Page, marked: Marked,
        frame: Frame,
    ) -> None:
        self.stream = conversation_stream(visit_id)
        self.subject = subject
        self._ws = ws
        self._after = after
        self._until = until
        self._page = page
        self._frame = frame
        self._marked = marked
        self._told: dict[str, dict[str, int]] = {}
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue(WAITING_ANSWERS)
        self._wake = threading.Event()
        self._ended = threading.Event()

    def serve(self, hub: Hub) -> None:
        """Returns when the connection has ended."""
        self._ws.input_buffer = _Frames(self._ws.input_buffer)
        if not hub.join(self):
            self.close(TRY_LATER, "live_full")
            return
        sender = threading.Thread(target=self._send, name="live-send", daemon=True)
        try:
            self.wake()
            sender.start()
            self._receive()
        finally:
            self._ended.set()
            self.wake()
            hub.leave(self)
            sender.join(STALLED_SECONDS + 1)
            self._hang_up()

    def wake(self) -> None:
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        self._ended.set()
        with contextlib.suppress(ConnectionClosed, OSError):
            self._ws.close(code, reason)
        self._ws.event.set()  # `receive` waits on this alone
        self.wake()

    def _receive(self) -> None:
        try:
            while not self._ended.is_set():
                content = self._ws.receive(timeout=max(0.0, self._until - time.time()))
                if content is None:
                    self.close(TOKEN_ENDED, "token_invalid")
                    return
                self._answers.put(self._frame(content), timeout=STALLED_SECONDS)
                self.wake()
        except (ConnectionClosed, queue.Full):
            pass

    def _send(self) -> None:
        try:
            while not self._ended.is_set():
                self._wake.wait()
                self._wake.clear()
                while not self._answers.empty():
                    self._write(self._answers.get())
                self._catch_up()
        except (ConnectionClosed, OSError):
            self._ended.set()
            self._cut()
        except Exception:
            log.exception("live: %s cannot be read", self.stream)
            self.close(INTERNAL, "internal")

    def _catch_up(self) -> None:
        try:
            while not self._ended.is_set() and (messages := self._page(self._after)):
                for message in messages:
                    self._write({"type": "message", **message})
                    self._after = message["number"]
            if (marks := self._marked()) != self._told:
                self._write({"type": MARKS, **marks})
                self._told = marks
        except StoreUnavailable:
            if not self._ended.wait(RETRY_SECONDS):
                self.wake()

    def _write(self, content: dict[str, Any]) -> None:
        self._ws.send(orjson.dumps(content).decode())

    def _hang_up(self) -> None:
        """Give the client a moment to answer our goodbye, then end the reading thread too."""
        self._ws.thread.join(1)
        self._cut()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            self._ws.sock.shutdown(socket.SHUT_RDWR)


class _Frames(list[Any]):
    """simple_websocket keeps what has come in without a bound; its reading thread takes an OSError as the end."""

    def append(self, item: Any) -> None:
        if len(self) >= WAITING_FRAMES:
            raise ConnectionAbortedError("too many frames at once")
        super().append(item)


class SharedSocket:
    """simple_websocket writes from several threads with `send`: a pong between the halves of a long message would end
    the connection. Here each write is whole, and one that the client does not take in time is an error."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STALLED_SECONDS, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._sock = sock
        self._writing = threading.Lock()

    def send(self, data: bytes) -> int:
        with self._writing:
            self._sock.sendall(data)
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
