"""A gunicorn worker for the lane: gthread, whose main loop reads the calls that the lane knows by itself.

A thread for each kind of call answers them, with one database connection and as many calls at once as have come in
meanwhile. All other requests go to pools of threads, with every byte that was read: pages to gthread's own, large bodies
and answers to a second one, health checks to a third, logins to a fourth. Slow clients hold no thread of the first
(docs/adr/0029).
Set as gunicorn's `worker_class` by leaderboard_site/gunicorn_hooks.py. HTTP/2 and TLS in gunicorn are gthread's alone.
"""

import errno
import queue
import selectors
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from gunicorn import SERVER, util
from gunicorn.workers.gthread import ThreadWorker

from leaderboard_site.lane.body import is_read, read_straight
from leaderboard_site.lane.connection import Kept, LaneConnection

RECEIVE_BYTES = 80 * 1024
MOST_AT_ONCE = 64
SWEEP_SECONDS = 1.0
# A client that sends nothing of a body, or takes nothing of an answer, is given up after so long.
STALL_SECONDS = 30
# Threads for health checks only, and how many transfers may wait for each transfer thread.
PROBE_THREADS, QUEUED_TRANSFERS = 2, 15
# Threads for requests that hash a password: those that wait for their turn hold no thread that answers pages.
LOGIN_THREADS = 4
# Slow readers at a time.
MOST_SLOW_READERS = 256
# While it ends, nothing wakes the main loop when the last calls are answered.
LAST_LOOKS_SECONDS = 0.05


class LaneWorker(ThreadWorker):
    def run(self) -> None:
        # Imported here: gunicorn loads this class before Django is set up.
        from jobs import queue as wake_up_calls
        from leaderboard_site.lane import desk
        from leaderboard_site.lane.wire import Incomplete, read_call

        self._desk, self._read_call, self._incomplete = desk, read_call, Incomplete
        self._prepare()
        wake_up_calls.start_posting()
        super().run()

    def _prepare(self) -> None:
        # Imported here: they need Django's settings.
        from leaderboard_site.lane import slow_clients, wire

        self._wire, self._socket = wire, slow_clients.ClientSocket
        self._pools = {
            wire.PAGES: self.tpool,
            wire.TRANSFERS: ThreadPoolExecutor(self.cfg.threads),
            wire.PROBES: ThreadPoolExecutor(PROBE_THREADS),
            wire.LOGINS: ThreadPoolExecutor(LOGIN_THREADS),
        }
        self._transfers = 0
        self._slow_readers = slow_clients.SlowReaders(MOST_SLOW_READERS)
        self._slow_readers.start()
        self.keepalived_conns = Kept()
        self._parked: list[LaneConnection] = []
        self._lingering = Kept()
        self._swept_at = 0.0
        self._date = (0, "")
        self._inboxes: dict[str, queue.SimpleQueue[Any]] = {route: queue.SimpleQueue() for route in self._desk.AT_ONCE}
        for route, inbox in self._inboxes.items():
            threading.Thread(target=self._serve, args=(route, inbox), name=f"lane {route}", daemon=True).start()

    # --- The main loop's thread ------------------------------------------------------------------------------------

    def accept(self, listener: Any) -> None:
        if self.cfg.is_ssl or not self.cfg.keepalive or self.cfg.http2_cleartext != "off":
            super().accept(listener)
            return
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno == errno.EMFILE:
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", STALL_SECONDS, 0))
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)
        conn = LaneConnection(self.cfg, self._socket(sock), address, listener.getsockname())
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
        # What happened before it in this round of events may have closed it, or sent it to the pool.
        if conn not in self.keepalived_conns:
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
            # The site refuses half a body. No thread waits for the other half, which will not come.
            conn.way = self._wire.PAGES
            (self._to_pool if conn.wanted else self._close)(conn)
            return
        if not conn.received:
            # From its first byte on, a request has as long as a wait for it: however slowly it comes.
            conn.set_timeout()
        conn.received += data
        if len(conn.received) >= conn.wanted:
            self._judge(conn)

    def _judge(self, conn: LaneConnection) -> None:
        """What was read goes to the lane, to the pool, or waits for the rest of it."""
        found: Any = self._read_call(conn.received)
        if found is None:
            found = self._wire.way_of(conn.received)
        conn.wanted = found.wanted if isinstance(found, self._incomplete) else 0
        if isinstance(found, self._incomplete):
            if found.is_asking:
                self._go_on(conn)
            return
        if isinstance(found, str):
            conn.way = found
            self._to_pool(conn)
            return
        call, headers, line = found
        call.tag, call.began = (conn, headers, line), perf_counter()
        conn.is_busy = True
        self._inboxes[call.route].put(call)

    def _go_on(self, conn: LaneConnection) -> None:
        """Ask for the body; gunicorn would do so in a thread, and wait for it there."""
        try:
            conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            self._close(conn)

    def _to_pool(self, conn: LaneConnection) -> None:
        """To gthread's own way, with what was read of the request."""
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        if conn.way not in self._pools:
            self._refuse(conn, str(conn.way))
        elif conn.way == self._wire.TRANSFERS and self._transfers > self.cfg.threads * (1 + QUEUED_TRANSFERS):
            self._refuse(conn, "503 Service Unavailable\r\nRetry-After: 10")
        else:
            conn.data_ready = True
            self.enqueue_req(conn)

    def enqueue_req(self, conn: Any) -> None:
        way = getattr(conn, "way", self._wire.PAGES)
        self._transfers += way == self._wire.TRANSFERS
        done = self._pools[way].submit(self.handle, conn)
        done.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _refuse(self, conn: LaneConnection, line: str) -> None:
        """Answer without a thread and close the connection."""
        try:
            conn.sock.send(f"HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        except OSError:
            pass  # it has gone, or never reads
        conn.close(graceful=True)
        if conn.lingers is None:
            self.nr_conns -= 1
        else:
            self._linger(conn)

    def _close(self, conn: LaneConnection) -> None:
        if conn in self._parked:
            self._parked.remove(conn)
        else:
            self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        self.nr_conns -= 1
        conn.close()

    def handle_request(self, req: Any, conn: Any) -> Any:
        read_straight(req)
        if not isinstance(conn, LaneConnection):
            return super().handle_request(req, conn)
        conn.sock.begin()
        try:
            is_kept = super().handle_request(req, conn)
        finally:
            conn.sock.end()
        # gthread would wait in this thread for the rest of a body that no view wants.
        return is_kept and (conn.way != self._wire.TRANSFERS or is_read(req))

    def finish_request(self, conn: Any, fs: Any) -> None:
        if not isinstance(conn, LaneConnection):
            super().finish_request(conn, fs)
            return
        self._transfers -= conn.way == self._wire.TRANSFERS
        if conn.sock.unsent is None:
            self._finish(conn, fs)
        else:
            self._slow_readers.take(conn.sock, partial(self.method_queue.defer, self._sent, conn, fs))

    def _sent(self, conn: LaneConnection, fs: Any, is_whole: bool) -> None:
        """Go on with a connection after its answer was sent on, or close it if that failed."""
        if is_whole:
            self._finish(conn, fs)
        else:
            self.nr_conns -= 1
            conn.close()

    def _finish(self, conn: LaneConnection, fs: Any) -> None:
        """gthread would wait for more bytes where the next request has come with the last one."""
        super().finish_request(conn, fs)
        if conn.lingers is not None:
            self.nr_conns += 1
            self._linger(conn)
        elif conn in self.keepalived_conns and conn.has_more_buffered:
            conn.received = conn.parser.unreader.take_buffered()
            self._judge(conn)

    def _linger(self, conn: LaneConnection) -> None:
        self._lingering.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))

    def _drain(self, conn: LaneConnection, client: Any) -> None:
        try:
            data = client.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.lingers = (conn.lingers or 0) - len(data)
        if not data or conn.lingers <= 0:
            self._end_lingering(conn)

    def _end_lingering(self, conn: LaneConnection) -> None:
        self.poller.unregister(conn.sock)
        self._lingering.remove(conn)
        self.nr_conns -= 1
        conn.close()

    def _decline(self, conn: LaneConnection) -> None:
        """The lane has no answer: the site has."""
        conn.is_busy = False
        conn.way = str(self._wire.way_of(conn.received))
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
            timeout = min(timeout, LAST_LOOKS_SECONDS)
            for conn in [one for one in self.keepalived_conns if not one.is_busy]:
                self._let_go(conn)
        elif self.nr_conns >= self.worker_connections:
            self._make_room()
        super().wait_for_and_dispatch_events(timeout)

    def _let_go(self, conn: LaneConnection) -> None:
        """At the end: a request that has come is answered, one that has begun may come; who only waits is closed."""
        self.on_client_socket_readable(conn, conn.sock)
        if conn in self.keepalived_conns and not conn.is_busy and not conn.received:
            self._close(conn)

    def _make_room(self) -> None:
        """No more connections are taken: those that have waited longest go, so that none can keep all others out."""
        waiting = sorted((one for one in self.keepalived_conns if not one.is_busy), key=lambda one: one.timeout)
        for conn in waiting[: max(1, self.worker_connections // 20)]:
            self._close(conn)

    def murder_keepalived(self) -> None:
        now = time.monotonic()
        if now - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = now
        for conn in [one for one in self.keepalived_conns if not one.is_busy and one.timeout < now]:
            self._close(conn)
        for conn in [one for one in self._lingering if one.timeout < now]:
            self._end_lingering(conn)

    # --- The lane's threads ----------------------------------------------------------------------------------------

    def _serve(self, route: str, inbox: "queue.SimpleQueue[Any]") -> None:
        from leaderboard_site.lane.database import limit_statements

        limit_statements()
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
                    continue
                try:
                    self._send(call, answer)
                except Exception:  # the same; what is lost is this one's answer
                    self.log.exception("the lane could not send")
                    self.method_queue.defer(self._drop, call.tag[0])
            self._count_requests(sum(answer is not None for answer in answers))

    def _send(self, call: Any, answer: Any) -> None:
        conn, headers, line = call.tag
        is_last = not self.alive or headers.get("connection", "").lower() == "close"
        message = answer.message(self._about_us(is_last))
        conn.set_timeout()
        with conn.lock:
            conn.received = b""
            try:
                # So small an answer finds no room only where nobody reads.
                is_over = conn.sock.send(message) != len(message) or is_last
            except OSError:
                is_over = True
            # Who is dropped stays busy: nothing more is read from it, and nothing follows half an answer.
            conn.is_busy = is_over
        if is_over:
            self.method_queue.defer(self._drop, conn)
        self._log(call, answer, headers, line, conn)

    def _drop(self, conn: LaneConnection) -> None:
        if conn in self.keepalived_conns:
            self._close(conn)

    def _about_us(self, is_last: bool) -> str:
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, f"Server: {SERVER}\r\nDate: {util.http_date()}\r\nConnection: ")
        return self._date[1] + ("close\r\n" if is_last else "keep-alive\r\n")

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
