"""A gunicorn worker for the lane: gthread, whose main loop reads the calls that the lane knows by itself.

Two threads more answer them, one for what is only read and one for what is written, each with one database connection and
as many calls at once as have come in meanwhile. All other requests go to gthread's pool, with every byte that was read.
Set as gunicorn's `worker_class` by leaderboard_site/gunicorn_hooks.py. HTTP/2 and TLS in gunicorn are gthread's alone.
"""

import errno
import queue
import selectors
import threading
import time
from datetime import timedelta
from functools import partial
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from gunicorn import SERVER, util
from gunicorn.http2 import negotiation
from gunicorn.workers.gthread import TConn, ThreadWorker

RECEIVE_BYTES = 80 * 1024
MOST_AT_ONCE = 64
BODY_CHUNK_BYTES = 64 * 1024
SWEEP_SECONDS = 1.0


class LaneConnection(TConn):  # type: ignore[misc]
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.received = b""
        # Whether a call of it is being answered; cleared and sent under the lock, so that answers keep their order.
        self.is_busy = False
        self.lock = threading.Lock()

    def init(self) -> None:
        super().init()
        if self.received:
            unreader = self.parser.unreader
            unreader.unread(unreader.take_buffered() + self.received)
            self.received = b""
        # Bodies come in larger pieces than heads.
        self.parser.unreader.mxchunk = BODY_CHUNK_BYTES

    @property
    def has_more_buffered(self) -> bool:
        return self.parser is not None and bool(self.parser.unreader.buf.getvalue())


class Kept(dict[LaneConnection, None]):
    """The connections that wait for their next request, where gthread has a list that it searches."""

    def append(self, conn: LaneConnection) -> None:
        self[conn] = None

    def remove(self, conn: LaneConnection) -> None:
        self.pop(conn, None)


class LaneWorker(ThreadWorker):  # type: ignore[misc]
    def run(self) -> None:
        # Imported here: gunicorn loads this class before Django is set up.
        from jobs import queue as wake_up_calls
        from leaderboard_site.lane import desk
        from leaderboard_site.lane.wire import Incomplete, read_call

        self._desk, self._read_call, self._incomplete = desk, read_call, Incomplete
        self.keepalived_conns = Kept()
        self._parked: list[LaneConnection] = []
        self._swept_at = 0.0
        self._date = (0, "")
        self._inboxes: dict[str, queue.SimpleQueue[Any]] = {route: queue.SimpleQueue() for route in desk.AT_ONCE}
        for route, inbox in self._inboxes.items():
            threading.Thread(target=self._serve, args=(route, inbox), name=f"lane {route}", daemon=True).start()
        wake_up_calls.start_posting()
        super().run()

    # --- The main loop's thread ------------------------------------------------------------------------------------

    def accept(self, listener: Any) -> None:
        if self.cfg.is_ssl or not self.cfg.keepalive:
            super().accept(listener)
            return
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        conn = LaneConnection(self.cfg, sock, address, listener.getsockname())
        if negotiation.prior_knowledge_allowed(self.cfg, address):
            self.enqueue_req(conn)
            return
        conn.set_timeout()
        self._watch(conn)

    def _watch(self, conn: LaneConnection) -> None:
        self.keepalived_conns.append(conn)
        ready = partial(self.on_client_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, ready)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        if not isinstance(conn, LaneConnection):
            super().on_client_socket_readable(conn, client)
            return
        with conn.lock:
            is_busy = conn.is_busy
        if is_busy:
            # It sends on, or has gone, before it was answered: looked at again afterwards.
            self.poller.unregister(client)
            self._parked.append(conn)
            return
        try:
            data = client.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(conn)
            return
        conn.received += data
        found = None if conn.has_more_buffered else self._read_call(conn.received)
        if found is None:
            self._to_pool(conn)
            return
        if isinstance(found, self._incomplete):
            return
        call, headers, line = found
        call.tag, call.began = (conn, headers, line), perf_counter()
        conn.is_busy = True
        self._inboxes[call.route].put(call)

    def _to_pool(self, conn: LaneConnection) -> None:
        """To gthread's own way, with what was read of the request."""
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        conn.data_ready = True
        self.enqueue_req(conn)

    def _close(self, conn: LaneConnection) -> None:
        if conn in self._parked:
            self._parked.remove(conn)
        else:
            self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        self.nr_conns -= 1
        conn.close()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """gthread would wait for more bytes where the next request has come with the last one."""
        is_kept = self.alive and not fs.cancelled() and fs.exception() is None and fs.result() is True
        if is_kept and isinstance(conn, LaneConnection) and conn.has_more_buffered:
            self.enqueue_req(conn)
        else:
            super().finish_request(conn, fs)

    def _decline(self, conn: LaneConnection) -> None:
        """The lane has no answer: the site has."""
        conn.is_busy = False
        if conn in self._parked:
            self._parked.remove(conn)
            self.keepalived_conns.remove(conn)
            conn.data_ready = True
            self.enqueue_req(conn)
        else:
            self._to_pool(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self._parked:
            timeout = min(timeout, 0.01)
            parked, self._parked = self._parked, []
            for conn in parked:
                if conn.is_busy:
                    self._parked.append(conn)
                else:
                    self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_client_socket_readable, conn))
        if not self.alive:
            for conn in [one for one in self.keepalived_conns if not one.is_busy]:
                self._close(conn)
        super().wait_for_and_dispatch_events(timeout)

    def murder_keepalived(self) -> None:
        now = time.monotonic()
        if now - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = now
        for conn in [one for one in self.keepalived_conns if not one.is_busy and one.timeout < now]:
            self._close(conn)

    # --- The lane's threads ----------------------------------------------------------------------------------------

    def _serve(self, route: str, inbox: "queue.SimpleQueue[Any]") -> None:
        while True:
            calls = [inbox.get()]
            while len(calls) < MOST_AT_ONCE and not inbox.empty():
                calls.append(inbox.get_nowait())
            try:
                answers = self._desk.answer_all(route, calls)
            except Exception:  # a thread that ended would leave every later call without an answer
                self.log.exception("the lane could not answer")
                answers = [None] * len(calls)
            for call, answer in zip(calls, answers, strict=True):
                if answer is None:
                    self.method_queue.defer(self._decline, call.tag[0])
                else:
                    self._send(call, answer)
            self._count_requests(len(calls))

    def _send(self, call: Any, answer: Any) -> None:
        conn, headers, line = call.tag
        message = answer.message(self._about_us())
        conn.set_timeout()
        with conn.lock:
            conn.received = b""
            conn.is_busy = False
            try:
                is_sent = conn.sock.send(message) == len(message)
            except OSError:
                is_sent = False
        if not is_sent:
            # So small an answer finds no room only where nobody reads.
            self.method_queue.defer(self._drop, conn)
        self._log(call, answer, headers, line, conn)

    def _drop(self, conn: LaneConnection) -> None:
        if conn in self.keepalived_conns:
            self._close(conn)

    def _about_us(self) -> str:
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, f"Server: {SERVER}\r\nDate: {util.http_date()}\r\nConnection: keep-alive\r\n")
        return self._date[1]

    def _log(self, call: Any, answer: Any, headers: dict[str, str], line: str, conn: LaneConnection) -> None:
        method, path, protocol = line.split(" ")
        address = conn.client[0] if isinstance(conn.client, tuple) else str(conn.client)
        environ = {
            "REQUEST_METHOD": method, "RAW_URI": path, "PATH_INFO": path, "QUERY_STRING": "",
            "SERVER_PROTOCOL": protocol, "REMOTE_ADDR": address,
            "HTTP_USER_AGENT": headers.get("user-agent", "-"),
        }  # fmt: skip
        sent = SimpleNamespace(status=answer.line, sent=len(answer.body), headers=answer.headers)
        asked = SimpleNamespace(headers=[(name.upper(), value) for name, value in headers.items()])
        self.log.access(sent, asked, environ, timedelta(seconds=perf_counter() - call.began))

    def _count_requests(self, count: int) -> None:
        self.nr += count
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive: bool = False
