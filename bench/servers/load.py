"""Messages between pairs of users, as fast as they are delivered or at a pace, and when they arrive.

The load is made before it is sent, and what arrives is only counted: the processors are for the servers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from bench.load import bodies
from bench.servers.client import Stream

#: How far a user may be ahead of what his partner has got, and how many messages he sends at once.
AHEAD, AT_ONCE = 200, 50
_END_OF_MESSAGE = b"</body>"
_CHUNK = 1 << 18


class Undelivered(Exception):
    """Messages did not arrive."""


class _User:
    """One end of a pair: its queue, and how much of it was sent and got."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.partner: _User
        self.queue: deque[bytes] = deque()
        self.sent = self.got = 0
        self.unsent = b""
        self._tail = b""
        stream.socket.setblocking(False)

    def send_more(self) -> None:
        """What may be sent now of the queue; what the socket does not take of it is `unsent`."""
        room = 0 if self.unsent else min(AHEAD - (self.sent - self.partner.got), AT_ONCE, len(self.queue))
        if room > 0:
            self.sent += room
            self.unsent = b"".join(self.queue.popleft() for _ in range(room))
        if self.unsent:
            try:
                self.unsent = self.unsent[self.stream.socket.send(self.unsent) :]
            except BlockingIOError:
                pass

    def receive(self) -> int:
        """How many messages have arrived."""
        data = self.stream.socket.recv(_CHUNK)
        if not data:
            raise Undelivered(f"{self.stream.jid}: the server closed the stream")
        data = self._tail + data
        self._tail = data[1 - len(_END_OF_MESSAGE) :]
        count = data.count(_END_OF_MESSAGE)
        self.got += count
        return count


class Load:
    """Users at their streams: the first talks to the second, the third to the fourth."""

    def __init__(self, streams: list[Stream]) -> None:
        self._users = [_User(stream) for stream in streams]
        for one, other in zip(self._users[::2], self._users[1::2], strict=True):
            one.partner, other.partner = other, one
        self._selector = DefaultSelector()
        for user in self._users:
            self._selector.register(user.stream.socket, EVENT_READ, user)
        self._made = 0

    def flood(self, count: int, limit: float, pairs: int | None = None) -> tuple[float, float]:
        """Have `count` messages sent and delivered, by the first `pairs`; when the first was sent, and when
        the last had arrived.

        :raises Undelivered: it takes more than `limit` seconds.
        """
        users = self._users[: 2 * pairs] if pairs else self._users
        for number, message in enumerate(list(self._messages(count, users))):
            users[number % len(users)].queue.append(message)
        begun = time.monotonic()
        for user in users:
            self._send(user)
        self._deliver(count, begun + limit)
        return begun, time.monotonic()

    def pace(self, count: int, rate: float, limit: float) -> list[float]:
        """Have `count` messages sent at `rate` a second, and delivered; when each was sent.

        :raises Undelivered: some have not arrived `limit` seconds after the last was sent.
        """
        messages = list(self._messages(count, self._users))
        begun, sent, missing = time.monotonic(), [], count
        for number, message in enumerate(messages):
            due = begun + number / rate
            while (left := due - time.monotonic()) > 0:
                missing -= self._step(left)
            sent.append(time.monotonic())
            user = self._users[number % len(self._users)]
            user.queue.append(message)
            self._send(user)
        self._deliver(missing, time.monotonic() + limit)
        return sent

    def close(self) -> None:
        self._selector.close()
        for user in self._users:
            user.stream.close()

    def _messages(self, count: int, users: list[_User]) -> Iterator[bytes]:
        """Of the users in turn, to their partners; no two have the same id."""
        for number, body in enumerate(bodies(count)):
            user = number % len(users)
            self._made += 1
            yield (
                f"<message type='chat' to='{users[user].partner.stream.jid}' id='{self._made:016x}'>"
                f"<body>{body}</body><thread>{user // 2}</thread></message>"
            ).encode()

    def _deliver(self, missing: int, deadline: float) -> None:
        while missing > 0:
            missing -= self._step(1.0)
            if time.monotonic() > deadline:
                raise Undelivered(f"{missing} messages have not arrived in time")

    def _step(self, seconds: float) -> int:
        """Wait for at most that long; how many messages arrived."""
        arrived = 0
        for key, events in self._selector.select(seconds):
            user = key.data
            if events & EVENT_WRITE:
                self._send(user)
            if events & EVENT_READ:
                arrived += user.receive()
                self._send(user.partner)
        return arrived

    def _send(self, user: _User) -> None:
        user.send_more()
        events = EVENT_READ | (EVENT_WRITE if user.unsent else 0)
        if self._selector.get_key(user.stream.socket).events != events:
            self._selector.modify(user.stream.socket, events, user)
