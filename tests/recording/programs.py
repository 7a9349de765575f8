"""Programs that the recording tests run as processes of their own: ``programs.py NAME STORE …``.

Each prints an event's id only after the call that recorded it has returned, so that a test can hold the toolkit to it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

from auditkit import AuditLogger, get_audit_logger
from auditkit.errors import ClosedError
from auditkit.recording import RecordingWarning

SECRET: Final = "a secret that only these tests know"
DAY: Final = datetime(2001, 5, 5, tzinfo=UTC)

_print_lock = threading.Lock()


def report(*words: object) -> None:
    """Print a line in one system call, past every buffer that a killed process would lose."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def open_logger(store: str, **options: Any) -> AuditLogger:
    """Open a logger with our secret."""
    return AuditLogger(store, secret_key=SECRET, **{"enable_rotation": False, **options})


def record(store: str, count: str, tag: str = "x") -> None:
    """Record so many events and leave without closing."""
    audit = open_logger(store)
    for number in range(int(count)):
        report(audit.log_event(tag, {"number": number}))


def record_default(store: str, count: str) -> None:
    """Record with the key that the toolkit makes by itself, as processes do that start a new store together."""
    audit = AuditLogger(store)
    ids = [audit.log_event("x", {"number": number}) for number in range(int(count))]
    for event_id in ids:
        report(event_id)


def record_endlessly(store: str, threads: str, seed: str) -> None:
    """Record small and large events of several days from several threads until the process is killed."""
    audit = open_logger(store, max_file_size_mb=0.2, enable_rotation=True)

    def work(thread: int) -> None:
        chance = random.Random(f"{seed} {thread}")
        while True:
            size = chance.choice([0, 0, 0, 10, 10, 1000, 60_000])
            day = DAY + timedelta(days=chance.choice([0, 0, 0, 1]))
            report(audit.log_event("x", {"thread": thread, "text": "x" * size}, time=day))

    for thread in range(1, int(threads)):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    work(0)


def record_in_threads(store: str, threads: str, count: str) -> None:
    """Record from several threads; some of them end by an exception and by sys.exit."""
    audit = open_logger(store)

    def work(thread: int) -> None:
        ids = [audit.log_event("x", {"thread": thread, "number": number}) for number in range(int(count))]
        with _print_lock:
            for event_id in ids:
                report(event_id)
        if thread % 3 == 1:
            sys.exit(3)

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def leave(store: str, how: str) -> None:
    """Record some events and end the process in one way or the other."""
    audit = open_logger(store)
    for number in range(5):
        report(audit.log_event("x", {"number": number}))
    if how == "exit":
        sys.exit(0)
    elif how == "_exit":
        os._exit(0)
    elif how == "exception":
        raise ValueError("the application's own")
    elif how == "close":
        audit.close()
    elif how == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "collected":
        del audit
        gc.collect()
        report("collected")
        os._exit(0)
    elif how == "late":
        # Registered after the logger was made, so it runs before the logger's own end.
        atexit.register(lambda: report(audit.log_event("x", {"number": "late"})))


def fork(store: str, forks: str) -> None:
    """Fork again and again while four threads and the parent record; each child records too."""
    audit = open_logger(store, enable_rotation=True)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            report(audit.log_event("thread"))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    children = []
    for number in range(int(forks)):
        report(audit.log_event("parent", {"number": number}))
        child = os.fork()
        if child == 0:
            for again in range(3):
                report(audit.log_event("child", {"number": number, "again": again}))
            if number % 4 == 0:
                grandchild = os.fork()
                if grandchild == 0:
                    report(audit.log_event("grandchild"))
                    os._exit(0)
                os.waitpid(grandchild, 0)
            if number % 2:
                audit.close()
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    done.set()
    for worker in workers:
        worker.join()
    assert codes == [0] * len(codes), codes
    report(audit.log_event("parent", "end"))


def fork_and_exit(store: str) -> None:
    """Fork once; parent and child both end by sys.exit, so that both run their exit handlers."""
    audit = open_logger(store)
    report(audit.log_event("before"))
    child = os.fork()
    report(audit.log_event("child" if child == 0 else "parent"))
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    sys.exit(0)


def pool(store: str) -> None:
    """Use a multiprocessing pool of forked workers and the process's one logger."""
    os.environ["AUDITKIT_STORE"] = store
    os.environ["AUDITKIT_KEY"] = SECRET
    report(get_audit_logger().log_event("before"))
    with multiprocessing.get_context("fork").Pool(4) as workers:
        for event_id in workers.map(record_in_worker, range(40)):
            report(event_id)
        workers.close()
        workers.join()
    report(get_audit_logger().log_event("after"))


def record_in_worker(number: int) -> str:
    """Record one event in a pool's worker."""
    return get_audit_logger().log_event("worker", {"number": number})


def interrupt(store: str, what: str, count: str) -> None:
    """Record while a timer interrupts at random moments; the handler records too, or flushes, or raises."""
    audit = open_logger(store)
    chance = random.Random(7)
    raised = 0
    inside = False

    class Interruption(Exception):
        pass

    def again() -> None:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00002, 0.0005))

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal inside
        if "record" in what:
            report(audit.log_event("handler"))
        if "flush" in what:
            audit.flush()
        again()
        if "raise" in what and inside:
            inside = False
            raise Interruption

    signal.signal(signal.SIGALRM, handle)
    again()
    for number in range(int(count)):
        event_id = None
        try:
            inside = True
            event_id = audit.log_event("main", {"number": number})
            inside = False
        except Interruption:
            raised += 1
        if event_id is not None:
            report(event_id)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    report("raised", raised)


def interrupt_everything(store: str, kind: str, count: str) -> None:
    """Record, flush and rotate while timeouts end the calls, in kinds of exceptions that the calls catch themselves.

    The exceptions are kept, as a program does that looks at them later, and another thread records all the time.
    """
    audit = open_logger(store)
    kinds: dict[str, type[BaseException]] = {"disk": TimeoutError, "value": ValueError, "key": KeyboardInterrupt}
    timeout = kinds[kind]
    rotate = audit._recorder.rotate  # without the sealing that a logger's own rotation waits for
    chance = random.Random(5)
    kept: list[BaseException] = []
    others: list[str] = []
    over = threading.Event()
    raised = 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        raised += 1
        raise timeout

    def record() -> None:
        while not over.is_set():
            others.append(audit.log_event("other"))
            time.sleep(0.0005)

    thread = threading.Thread(target=record)
    thread.start()
    signal.signal(signal.SIGALRM, handle)
    ids = []
    for number in range(int(count)):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.000005, 0.0003))
            for _ in range(6):
                call = chance.choice([audit.flush, rotate, None, None, None])
                if call is None:
                    ids.append(audit.log_event("main", {"number": number}))
                else:
                    call()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except timeout as error:
            kept.append(error)
    with suppress(timeout):
        signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    over.set()
    thread.join()  # a lock that was left with one of the kept exceptions would keep it for ever
    audit.close()
    for event_id in [*ids, *others]:
        report(event_id)
    report("interrupted", raised, "left", len(kept))


def interrupt_conversion(store: str) -> None:
    """Have signals arrive while a value's own code runs: their exceptions are the program's, its own are not."""
    audit = open_logger(store)

    class Lead:
        def __init__(self, number: signal.Signals | None) -> None:
            self.number = number

        def model_dump(self) -> dict[str, str]:
            if self.number is not None:
                signal.raise_signal(self.number)
            sys.exit("the value's own")

    class Alarm:
        def __call__(self, _number: int, _frame: FrameType | None) -> None:
            raise TimeoutError

        def leave(self, code: int, _number: int, _frame: FrameType | None) -> None:
            sys.exit(code)

    signal.signal(signal.SIGALRM, Alarm())
    signal.signal(signal.SIGTERM, functools.partial(Alarm().leave, 3))
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(4))
    for number in (None, signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        for value in (Lead(number), {"lead": [Lead(number)], "tags": {1}}):
            try:
                report("recorded", audit.log_event("x", value).rpartition(":")[2])
            except BaseException as error:  # noqa: BLE001
                report(type(error).__name__, error)
    audit.close()


def terminate(store: str, how: str) -> None:
    """Record until SIGTERM comes, whose handler closes the logger and leaves, as services do."""
    audit = open_logger(store)

    def handle(_number: int, _frame: FrameType | None) -> None:
        audit.close()
        if how == "exit":
            sys.exit(0)

    signal.signal(signal.SIGTERM, handle)
    try:
        while True:
            event_id = audit.log_event("x", {"how": how})
            report(event_id)
    except ClosedError:
        report("closed")


def close_often(store: str, rounds: str) -> None:
    """Make one logger after the other, each closed by a signal's handler at a random moment of its recording."""
    chance = random.Random(11)
    current: list[AuditLogger] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        current[-1].close()

    signal.signal(signal.SIGALRM, handle)
    for number in range(int(rounds)):
        audit = open_logger(store)
        current[:] = [audit]
        report(audit.log_event("first"))
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.0004))
        ids = []
        with suppress(ClosedError):
            while True:
                ids.append(audit.log_event("x", {"round": number}))
        for event_id in ids:
            report(event_id)


def finalise(store: str, count: str) -> None:
    """Let the garbage collector run finalisers that record, in the middle of whatever records."""
    audit = open_logger(store)

    class Resource:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            report(audit.log_event("finaliser"))

    gc.set_threshold(5)
    for number in range(int(count)):
        Resource()
        report(audit.log_event("main", {"number": number, "set": {number}}))
    gc.set_threshold(700)


def outgrow(store: str, count: str) -> None:
    """Print by how many bytes the process grows while it records and its journals are sealed in a child."""
    audit = open_logger(store, max_file_size_mb=4, enable_rotation=True)

    def work(events: int) -> None:
        for number in range(events):
            audit.log_event(
                "lead.ingested", {"source": "web", "score": number, "ok": True}, actor="ana", lead_id=f"L-{number}"
            )

    def measure() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()

    work(40_000)
    gc.collect()
    before = measure()
    work(int(count))
    gc.collect()
    report(measure() - before)


def exhaust_threads(store: str) -> None:
    """Record past the size limit in a process that can start no thread, so that no sealer is started."""
    audit = open_logger(store, max_file_size_mb=0.001, enable_rotation=True)
    threading.stack_size(512 << 20)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
    resource.setrlimit(resource.RLIMIT_AS, (used + (128 << 20), used + (128 << 20)))
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        report("no more threads")
    report(audit.log_event("x"))
    for number in range(30):
        report(audit.log_event("x", {"number": number}, message="x" * 100))


def run_as_daemon(folder: str) -> None:
    """Open a store by a relative path and go to the root folder, as daemons do, before a new day and a new part."""
    os.chdir(folder)
    audit = AuditLogger("audit", key_file="audit.key", enable_rotation=False)
    report(audit.log_event("x"))
    os.chdir("/")
    report(audit.log_event("x", time=DAY))
    audit.rotate()
    report(audit.log_event("x"))
    report(len(audit.query_events()))


def tear(store: str) -> None:
    """Record across an outage on a disk with room for half a line and for no other file."""
    warnings.simplefilter("ignore", RecordingWarning)
    disk = Path(store).parent
    audit = open_logger(store)
    report(audit.log_event("before"))
    names: list[Path] = []
    with suppress(OSError):
        while True:
            name = disk / f"name-{len(names)}"
            name.touch()
            names.append(name)
    ballast = os.open(names[0], os.O_WRONLY | os.O_APPEND)
    for size in (1 << 20, 1 << 12, 1):
        with suppress(OSError):
            while os.write(ballast, b"x" * size):
                pass
    os.close(ballast)
    os.truncate(names[0], names[0].stat().st_size - 40_000)
    report(audit.log_event("large", message="x" * 100_000))
    report(audit.log_event("small"))
    time.sleep(0.15)
    report(audit.log_event("small"))
    for name in names:
        name.unlink()
    time.sleep(0.15)
    report(audit.log_event("after"))
    audit.close()


def outlive_refusals(store: str) -> None:
    """Record while the journal's folder is away, then while no file may grow, and afterwards; print nothing else."""
    audit = open_logger(store)
    folder = Path(store, "journal")
    for _ in range(3):
        folder.rename(folder.with_name("away"))
        for _ in range(2):
            assert audit.log_event("lost") == ""
            time.sleep(0.11)
        folder.with_name("away").rename(folder)
        time.sleep(0.11)
        report(audit.log_event("after the folder"))
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
        waiting = [audit.log_event("waiting") for _ in range(5)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        for event_id in waiting:
            report(event_id)
        time.sleep(0.11)
        report(audit.log_event("after the limit"))
        audit.close()
        audit = open_logger(store)
    audit.close()


def rotate(store: str) -> None:
    """Record one event and have it sealed."""
    audit = open_logger(store)
    report(audit.log_event("x"))
    audit.rotate()


def come_and_go(store: str, count: str) -> None:
    """Fork so many processes, eight at a time, each of which opens a logger, records ten events and leaves."""
    gc.freeze()  # or each child's end would copy all the memory that it shares with this process
    running = 0
    for number in range(int(count)):
        child = os.fork()
        if child == 0:
            audit = AuditLogger(store)
            report(*[audit.log_event("x", {"process": number, "event": event}) for event in range(10)])
            sys.exit(0)
        running += 1
        while running == 8 or (running and number + 1 == int(count)):
            _, status = os.wait()
            assert status == 0, status
            running -= 1


def rotate_among_strangers(store: str, folder: str) -> None:
    """Have an event sealed from a working directory in which others may write, as an interactive session would."""
    audit = open_logger(store)
    report(audit.log_event("x"))
    os.chdir(folder)
    sys.path.insert(0, "")
    audit.rotate()


def watch_the_day(store: str) -> None:
    """Print whether the thread that waits for midnight runs: before and after an event, and both in a forked child."""

    def watches() -> bool:
        return any(thread.name == "auditkit-housekeeper" for thread in threading.enumerate())

    audit = open_logger(store, enable_rotation=True)
    report(watches())
    audit.log_event("x")
    report(watches())
    child = os.fork()
    if child == 0:
        report(watches())
        audit.log_event("x")
        report(watches())
        sys.exit(0)
    os.waitpid(child, 0)


def wait(store: str) -> None:
    """Keep a journal open until the process is killed."""
    audit = open_logger(store)
    report(audit.log_event("x"))
    time.sleep(600)


if __name__ == "__main__":
    program: Callable[..., None] = globals()[sys.argv[1]]
    program(*sys.argv[2:])
