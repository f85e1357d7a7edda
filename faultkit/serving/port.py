"""A server's port, its plan and its connections, in the engine's loop: who is let in, what each meets, what is written down."""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Callable

import trio

from faultkit.errors import Misuse, Unable, exhausted
from faultkit.evidence.transcript import Address
from faultkit.serving import bridge, tls, unmet, waiting
from faultkit.serving import plan as plans
from faultkit.serving.answers import Handler
from faultkit.serving.connection import Choose, Live
from faultkit.serving.door import BACKLOG, Door
from faultkit.serving.engine import PATIENCE, Engine, Watch
from faultkit.serving.faults import OK, Fault
from faultkit.serving.gate import Gate, Syn, Verdict, open_to_all
from faultkit.serving.record import Connection
from faultkit.serving.sessions import Sessions
from faultkit.serving.unix import UnixDoor
from faultkit.serving.which import Opening, Which

BATCH = 64  # connections accepted before others have their turn; arbitrary
CLOSED = "the server is closed: this goes inside the `with`, and for the fixtures inside the test"
TURNED_AWAY = ("refused", "unanswered", "never accepted")  # how an attempt ends that was no connection
RETRY = 0.1  # seconds until accept() is tried again where there were no descriptors; arbitrary


class Port:
    """What a `Server` stands on."""

    def __init__(
        self,
        door: Door,
        plan: plans.Plan,
        handler: Handler,
        authority: tls.Authority | None,
        must_be_met: bool,
        each: Callable[[Connection], None] | None,
        which: Which | None = None,
        gate: Gate | None = None,
        latency_seconds: float = 0.0,
        rate: float = 0.0,
        tls_later: bool = False,
    ) -> None:
        self._door = door
        self._plan = plan
        self._authority = authority
        self._must_be_met = must_be_met
        self._which = which  # of the connections is meant; None: each
        self._meant: list[Connection] = []
        self._each = each  # told of each connection that has ended; then they are not kept
        self._keep = each is None
        self._engine: Engine | None = None
        self._watch: Watch | None = None  # of the listening socket
        context = authority.server if authority else None
        self._sessions = Sessions(handler, context, self._over, self._failed, latency_seconds, rate, tls_later)
        self._waiting = waiting.Waiting()
        self._count = 0
        self._healed = False
        self._closed = False
        self._choked = False  # out of descriptors: nobody is accepted
        self._trying = False  # a task will try again
        self._ca_file: tls.PublicFile | None = None
        self._client_file: tls.PublicFile | None = None
        self._crash: tuple[int, BaseException, Unable | None] | None = None
        self._door_shut = False
        self._down = trio.CancelScope()  # of the restart that goes on
        self._connections: list[Connection] = []
        self._opened_as = (plan, which, must_be_met)
        self._gate = gate  # where some of a plan are turned away
        self._gate_watch: Watch | None = None
        self._expected: dict[Address, tuple[Connection, Fault | None]] = {}  # let in, and not accepted yet

    def open(self, engine: Engine) -> None:
        """Serve with that engine."""
        if self._engine is not None:
            raise Misuse("this server has been opened before: each faultkit.serve(...) gives one, for one `with`")
        self._engine = engine
        try:
            if self._plan.waiting:
                self._door.defer()
            engine.between_turns(self._begin)
        except BaseException:
            self._door.close()
            if self._gate:
                self._gate.close()
            raise

    def _begin(self) -> None:
        if self._gate and not self._gate_watch:
            assert self._engine
            self._gate_watch = self._engine.watch(self._gate.sock.fileno(), self._see, self._broke)
        if self._plan.door and self._plan.door.when.kind == "listen":
            self._shut(self._plan.door)
        else:
            self._admit()

    @property
    def elsewhere(self) -> bool:
        """Was this process forked from the one in which the server runs?"""
        return self._engine is not None and self._engine.elsewhere

    def close(self) -> None:
        """End everything, from a thread that is not the engine's."""
        assert self._engine
        if not self._engine.between_turns(self._end_without_tasks) and self._engine.call(self._end):
            self._engine.wait_for(self._sessions.ended)

    async def aclose(self) -> None:
        """End everything, in the engine's own loop."""
        if self._end():
            with trio.CancelScope(shield=True):
                await self._sessions.ended()

    def _end_without_tasks(self) -> bool:
        """End it where no task has to end for that. Gives whether it is so."""
        if self._sessions.tasks == 0:
            self._end()
        return self._closed

    def _end(self) -> bool:
        """Stop listening and end every connection. Gives whether there are tasks to wait for."""
        assert self._engine
        self._closed = True
        self._down.cancel()
        self._forget_door()
        self._door.close()  # what it turned away is known from now on
        self._close_gate()
        self._sessions.end()
        for file in (self._ca_file, self._client_file):
            if file:
                file.remove()
        return self._sessions.tasks > 0

    async def _settle(self) -> None:
        import trio.testing  # as late as this: it imports pytest, where there is one

        with trio.move_on_after(PATIENCE):
            await trio.testing.wait_all_tasks_blocked()

    def _arrive(self, most: int = BATCH) -> None:
        """Accept what waits at the listening socket."""
        if self._plan.waiting and not self._healed:
            self._turn_away(self._plan.waiting)
            return
        for _ in range(most):
            try:
                sock, peer = self._door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if exhausted(error):
                    self._failed(self._count + 1, error, False)
                    self._choke()
                    return
                continue  # what waited is gone (accept(2))
            self._accept(sock, peer)

    def _choke(self) -> None:
        """Accept nobody until a connection has ended, or the time has come to try: it would be readable all the time."""
        engine = self._engine
        assert engine
        self._forget_door()
        self._choked = True

        async def try_again() -> None:
            await trio.sleep(RETRY)  # nobody says when others have given descriptors back
            self._trying = False
            engine.between_turns(self._breathe)  # the server may be closed from another thread

        if not self._trying:
            self._trying = True
            engine.start_soon(try_again)

    def _breathe(self) -> None:
        if self._choked and not self._closed:
            self._watch_door()

    def _see(self) -> None:
        """What comes to the gate."""
        assert self._gate
        self._gate.look(self._judge)

    def _judge(self, syn: Syn) -> Verdict:
        """Whose turn it is in the plan."""
        fault = self._plan.of(self._count + 1)
        if fault and fault.served.door and self._healed:
            fault = None
        record = self._record(syn.peer, None if self._healed else fault, at=syn.at)
        if not (fault and fault.served.door):
            self._expected[syn.peer] = record, fault
            return "admit"
        record.meet(fault.name)
        record.end("unanswered" if fault.served.hangs else "refused")
        record.done()
        self._tell(record)
        return "ignore" if fault.served.hangs else "refuse"

    def _turn_away(self, fault: Fault) -> None:
        """Connections wait to be accepted, and are not."""
        assert fault.served.door
        records = [self._record(None, fault) for _ in range(self._door.waiting)]
        if not records:
            return
        # Before it is done, because a client may look as soon as it is told.
        for record in records:
            record.meet(fault.name)
            record.end("never accepted")
        fault.served.door(self._door)
        for record in records:
            record.done()
            self._tell(record)

    def _accept(self, sock: socket.socket, peer: Address) -> None:
        assert self._engine
        if self._gate:
            open_to_all(sock)
            if peer not in self._expected:  # it has marked its SYN itself
                sock.close()
                return
            record, fault = self._expected.pop(peer)
        else:
            fault = None if self._which else self._plan.of(self._count + 1)
            record = self._record(peer if peer.port else None, None if self._healed else fault)
        choose = self._choice(record) if self._which else None
        self._sessions.begin(self._engine, sock, record, fault, spared=self._healed, choose=choose)

    def _choose(self, record: Connection, opening: Opening) -> Fault | None:
        """The fault of a connection that begins so: of those that are meant it is the next."""
        assert self._which
        if not self._which(opening):
            return None
        self._meant.append(record)
        return self._plan.of(len(self._meant))

    # The rest.

    def _record(self, peer: Address | None, fault: Fault | None, at: float | None = None) -> Connection:
        number = self._count + 1
        record = Connection(number, peer, fault.title if fault else OK, self._waiting)
        record.opened_at = record.opened_at if at is None else at
        if self._keep:
            self._connections.append(record)
        self._count = number  # only now: another thread looks at it, and then for the record
        self._waiting.changed()
        return record

    def _over(self, record: Connection) -> None:
        self._breathe()
        self._tell(record)

    def _tell(self, record: Connection) -> None:
        record.over = True
        self._waiting.changed()
        if self._each:
            self._each(record)

    def _failed(self, number: int, error: BaseException, in_handler: bool) -> None:
        lacking = error if isinstance(error, Unable) else exhausted(error)  # of the limits of this moment
        self._crash = self._crash or (number, error, None if in_handler else lacking)

    def _run(self, work: Callable[[], None]) -> None:
        engine = self._engine

        def unless_closed() -> None:
            if self._closed:  # another thread may have, meanwhile
                raise Misuse(CLOSED)
            work()

        if engine is None or self._closed:
            raise Misuse(CLOSED)
        try:
            engine.call(lambda: engine.between_turns(unless_closed))
        except trio.RunFinishedError:  # so has its engine
            raise Misuse(CLOSED) from None

    def _admit(self) -> None:
        self._door.open()
        self._watch_door()

    def _watch_door(self) -> None:
        assert self._engine
        self._choked = False
        if self._watch is None:
            self._watch = self._engine.watch(self._door.sock.fileno(), self._arrive, self._broke)

    def _forget_door(self) -> None:
        assert self._engine
        self._engine.forget(self._watch)
        self._watch = None

    def _broke(self, error: BaseException) -> None:
        """Nobody is accepted any more."""
        self._watch = None
        self._failed(self._count + 1, error, False)

    def _shut(self, fault: Fault) -> None:
        assert fault.served.door
        self._forget_door()
        fault.served.door(self._door)
        self._door_shut = True
        self._choked = False

    def _greet(self) -> None:
        """Accept who has connected already, which the engine may not have seen yet: they came before what is done now."""
        if self._gate:
            self._see()
        if self._door.listening:
            self._arrive(BACKLOG)

    def _fire(self) -> None:
        if not self._plan.armed:
            raise Misuse("fire(): this server has no fault to set in: name one, as in serve('linger', at='fire')")
        self._greet()
        self._healed = False
        if self._plan.door:
            self._shut(self._plan.door)
        if refused := self._sessions.fire():
            raise refused

    def _restart(self, down_seconds: float) -> None:
        assert self._engine
        self._forget_door()
        self._greet()
        self._sessions.reset()
        self._door.refuse()
        self._choked = False
        self._down.cancel()  # of the restart before
        if not down_seconds:
            self._admit()
            return
        self._down = trio.CancelScope()
        self._sessions.tasks += 1
        self._engine.start_soon(self._come_up, self._engine, self._down, down_seconds)

    async def _come_up(self, engine: Engine, down: trio.CancelScope, seconds: float) -> None:
        try:
            with down:
                await trio.sleep(seconds)  # what this is: a time for which it is down
                engine.between_turns(self._admit)
        finally:
            self._sessions.task_ended()

    def _renew(self, plan: plans.Plan, which: Which | None, must_be_met: bool | None) -> None:
        """Begin anew with that plan: nothing has been seen yet, and who is connected has just come."""
        assert self._engine
        gate = Gate(self._door) if plan.gated and not self._gate else None  # or it is refused, and nothing has changed
        self._greet()
        self._down.cancel()
        self._forget_door()
        self._sessions.heal()
        self._open_gate(gate if plan.gated else None, keep=plan.gated)
        self._door.forget(defer=plan.waiting is not None)
        self._plan, self._which = plan, which
        self._must_be_met = self._must_be_met if must_be_met is None else must_be_met
        self._healed = self._door_shut = self._choked = False
        self._crash = None
        self._connections, self._meant, self._count = [], [], 0
        self._sessions.renew(self._come_again, self._choice if which else None)
        self._begin()

    def _open_gate(self, gate: Gate | None, *, keep: bool) -> None:
        if self._gate and not keep:
            self._close_gate()
            self._gate = None
            open_to_all(self._door.sock)
        if gate:
            self._gate = gate

    def _close_gate(self) -> None:
        """Nobody stands before the door any more; who was let in, and not accepted yet, is written down so."""
        assert self._engine
        if self._gate and self._gate_watch:
            self._engine.forget(self._gate_watch)
            self._gate_watch = None
            self._gate.close()
            for record, _ in self._expected.values():
                record.end("never accepted")
                self._tell(record)
            self._expected.clear()

    def _come_again(self, live: Live) -> tuple[Connection, Fault | None]:
        """The record and the fault of one that is connected already. One that cannot meet what would be its fault, or says
        nothing any more, is in no list."""
        fault = None if self._which else self._plan.of(self._count + 1)
        too_late = fault and (fault.served.door or fault.when.kind in ("accept", "client-hello", "handshake"))
        if too_late or live.leaving:
            return Connection(0, live.record.peer, OK, self._waiting), None
        return self._record(live.record.peer, fault), fault

    def _choice(self, record: Connection) -> Choose:
        return functools.partial(self._choose, record)

    def _heal(self) -> None:
        self._greet()
        self._down.cancel()
        self._healed = True
        self._admit()
        self._sessions.heal()

    def _container_address(self) -> Address:
        here = self._door.address
        if ipaddress.ip_address(here.host).is_loopback:
            raise Misuse(
                f"container_url: no container reaches {here.host}: serve with host='0.0.0.0', beyond_loopback=True"
            )
        return Address(bridge.address(here.host), here.port)

    @property
    def _place(self) -> int | str:
        """The port, or a Unix socket's path."""
        return self._door.path if isinstance(self._door, UnixDoor) else self._door.address.port

    def _trusted(self) -> tls.Authority:
        if self._authority is None:
            raise Misuse("this server does not speak TLS, so there is nothing to trust: serve it with tls=True")
        return self._authority

    def _unmet(self) -> str | None:
        """Which fault was armed and not met, in a sentence."""
        if not self._must_be_met:
            return None
        turned_away = self._plan.door is not None and self._door.turned_away
        if self._which and self._plan.armed and self._connections and not self._meant:
            return unmet.nobody_meant(self._plan, self._place, len(self._connections))
        return unmet.sentence(
            self._plan,
            self._place,
            self._meant if self._which else self._connections,
            shut=self._door_shut,
            turned_away=turned_away,
            own=self._sessions.own,
        )
