"""Questions that the workers of a Ray cluster answer, piece after piece, in order.

    one task: read -> pieces -> W workers, each with the model: ask(model, piece) -> answers

Ray Data holds a bounded number of pieces at a time, so memory does not grow with the table. A
worker that dies is started again, and its piece is asked about again, ``MAX_TRIES`` times in all.
The model's files travel through Ray's object store, so workers need no common disk; the table is
read on a machine of the cluster that sees it. What a worker would put on standard error, its
warnings and its errors come back with the answer, and are said here when their piece's turn comes.
A warning is about one piece: where one process asks about a whole table at once and warns of "12
rows", each piece warns of its own rows, with other numbers. In chunks both say the same.

No statistics leave the machine, no dashboard is started, and Ray's own messages stay off the
terminal.
"""

import contextlib
import io
import itertools
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from conjoin import __version__
from conjoin.util.energy import Energy, Tally

__all__ = ["LOCAL", "answered", "joined"]

LOCAL = "local"  # in place of an address: a cluster on this machine, for this command alone
MAX_PORT = 65_535
CLIENT = "ray://"  # addresses of drivers that are no part of the cluster
MODEL_FILES = ("config.json", "weights.safetensors")
# of pieces and answers that wait, for each worker
WAITING_BYTES = 1 << 28
IN_FLIGHT = 2  # pieces that a worker has been given, one of which it works on
MAX_TRIES = 4  # of a piece, each of which ended the worker
MAX_FAILED_STARTS = 3  # in a row, of workers that died before they were ready
# what Ray reads when it is imported
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # it would write to standard output that a worker died
}
# errors as the surfaces know them; an error travels as the first that it is
KNOWN = (NotImplementedError, ValueError, TypeError, ImportError, MemoryError, OSError)
OF_A_MODEL = "of_a_model"  # the sentence of a CapabilityError without the names of classes
END = "end"


@dataclass(frozen=True)
class Parcel:
    """A piece of work or its answer, and what came up on the way. ``empty``: there is none, only
    what came up. ``energy``: that the answer took. ``number`` of the piece, from 1 on."""

    content: Any
    said: str = ""
    warned: tuple[tuple[type[Warning], str], ...] = ()
    error: Exception | None = None
    empty: bool = False
    energy: Energy | None = None
    number: int = 0


@contextlib.contextmanager
def joined(
    address: str = LOCAL,
    workers: int | None = None,
    starting: Callable[[str], None] = lambda words: None,
) -> Iterator[int]:
    """Be part of a Ray cluster to the end of the block.

    Parameters
    ----------
    address
        ``LOCAL`` for one on this machine, which ends with the block; "auto" or "host:port" for one
        that runs. Where this process is part of a cluster already, that one is used.
    workers
        How many workers are to answer; None: as many as the cluster has processors.
    starting
        Is told in a sentence what is waited for, where a cluster has to be started or joined.

    Yields
    ------
    int
        The number of workers.

    Raises
    ------
    ImportError
        With the install line, where Ray is not installed.
    ConnectionError
        If no cluster answers at the address, or none can be started here.
    ValueError
        If the cluster, or this machine where one is started, has fewer processors than
        ``workers``, or the address is that of a client or has a port that is none.
    """
    port = address.rpartition(":")[2] if ":" in address else "1"
    if not address.startswith(CLIENT) and not (port.isdigit() and 0 < int(port) <= MAX_PORT):
        raise ValueError(
            f"{address} has no port: give auto, or host:port with a number up to {MAX_PORT}."
        )
    ray = _ray()
    if address.startswith(CLIENT):
        raise ValueError(
            f"{address} is for clients outside of a cluster, which do not see its files: run the "
            "command on a machine of the cluster, with auto or host:port as the address."
        )
    if ray.is_initialized():
        yield _workers_of(ray, workers)
        return
    if address == LOCAL:
        _refuse_more(workers, _processors(), "this machine")
        starting("A Ray cluster starts on this machine, which takes some 20 seconds.")
    else:
        starting(f"Joining the Ray cluster at {address}.")
    _start(ray, address, workers)
    try:
        yield _workers_of(ray, workers)
    finally:
        ray.shutdown()


def _ray() -> Any:
    """Ray, told to be quiet. ImportError with the install line."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise ImportError("A cluster needs the package ray: pip install 'conjoin[ray]'.") from None
    return ray


def _start(ray: Any, address: str, workers: int | None) -> None:
    """Start a cluster here, or join one."""
    own = {"address": LOCAL, "num_cpus": workers, "include_dashboard": False}
    where = own if address == LOCAL else {"address": address}
    try:
        with _silent():
            ray.init(**where, log_to_driver=False, logging_level="critical")
    except Exception as error:  # Ray raises Exception itself
        ray.shutdown()
        words = str(error).strip().splitlines() or [type(error).__name__]
        what = (
            "Ray could not be started on this machine"
            if address == LOCAL
            else f"No Ray cluster can be joined at {address} (where it asks for a token, set "
            "RAY_AUTH_MODE=token)"
        )
        raise ConnectionError(f"{what}: {words[0]}") from None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches standard error: what Ray's own code in C++ says before it can be told not
    to. Python's errors are raised all the same."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _workers_of(ray: Any, asked: int | None) -> int:
    """How many workers there can be, at most as many as were asked for."""
    there = int(ray.cluster_resources().get("CPU", 0))
    _refuse_more(asked, there, "the cluster")
    return asked or there


def _processors() -> int:
    """Those of this machine that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # of other systems than Linux
        return os.cpu_count() or 1


def _refuse_more(asked: int | None, there: int, where: str) -> None:
    if max(asked or 1, 1) > there:
        raise ValueError(f"{asked or 1} workers are asked for, and {where} has {there} processors.")


def _estimator_in(folder: Path) -> Any:
    from conjoin.estimators import load

    return load(folder, device="cpu")


def answered(
    model: str | Path,
    read: Callable[[Any], Iterator[Any]],
    ask: Callable[[Any, Any], Any],
    workers: int,
    load: Callable[[Path], Any] = _estimator_in,
) -> Iterator[tuple[Any, Energy | None]]:
    """The answers about all pieces, in their order; inside of ``joined``.

    Parameters
    ----------
    model
        The folder of a saved model, which each worker loads once.
    read
        ``read(estimator)`` gives the pieces; in one task of the cluster.
    ask
        ``ask(estimator, piece)`` is the answer; with one thread in each worker.
    workers
        How many of them.
    load
        What is asked and reads is ``load(folder)`` of the model's files: the estimator.

    Yields
    ------
    (Any, Energy or None)
        An answer and what it took, by CPU time: counters would count for every worker what all of
        them do. Warnings are given again here, and errors raised, when their piece's turn comes.

    Raises
    ------
    ConnectionError
        If the cluster breaks down, so that no worker is left or can be started, or if a piece
        ends its worker ``MAX_TRIES`` times; the sentence names the piece.
    """
    import ray

    with _silenced("ray.data"):
        answers = _asked(ray, model, read, ask, workers, load)
        try:
            for row in answers.iter_rows():
                parcel: Parcel = row["parcel"]
                _say(parcel)
                if not parcel.empty:
                    yield parcel.content, parcel.energy
        except ray.exceptions.RayError as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise ConnectionError(f"The Ray cluster broke down: {words[-1]}") from None


def _asked(
    ray: Any,
    model: str | Path,
    read: Callable[[Any], Iterator[Any]],
    ask: Callable[[Any, Any], Any],
    workers: int,
    load: Callable[[Path], Any],
) -> Any:
    """The answers as Ray's data set, of which nothing has run yet."""
    reader: Any = _read
    files = ray.put(_files_of(model))
    told = {"files": files, "version": __version__, "folder": os.getcwd(), "load": load}
    # it is started again where its machine dies, and then counts anew
    counter = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tries).remote()
    counted = {"begin": partial(_begun, counter), "max_tries": MAX_TRIES}
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=IN_FLIGHT)
    with ray.data.DataContext.current(_settings(ray, workers)):
        # the reader waits most of the time, and so takes no processor from the workers
        pieces = ray.data.from_items([0], override_num_blocks=1).map_batches(
            reader, fn_kwargs={**told, "read": read}, batch_format="numpy", num_cpus=0
        )
        return pieces.map_batches(
            Worker,
            fn_constructor_kwargs={**told, **counted, "ask": ask},
            batch_size=1,
            batch_format="numpy",
            compute=pool,
            num_cpus=1,
        )


def _settings(ray: Any, workers: int) -> Any:
    """How Ray Data runs: answers in order, one block for each piece, few of them at a time. A copy:
    other data sets of this process keep their own."""
    from ray.data import ExecutionResources

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(
        object_store_memory=WAITING_BYTES * workers
    )
    context.target_max_block_size = 1  # byte: a block is full with its first row
    context.max_consecutive_actor_init_deaths = MAX_FAILED_STARTS
    return context


@contextlib.contextmanager
def _silenced(name: str) -> Iterator[None]:
    """A logger says nothing to the end of the block."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _files_of(model: str | Path) -> dict[str, bytes]:
    return {name: (Path(model).expanduser() / name).read_bytes() for name in MODEL_FILES}


def _say(parcel: Parcel) -> None:
    """What came up elsewhere, as if it came up here."""
    if parcel.said:
        sys.stderr.write(parcel.said)
        sys.stderr.flush()
    for category, text in parcel.warned:
        warnings.warn(text, category, stacklevel=3)
    if parcel.error is not None:
        raise parcel.error


# ----------------------------------------------------------------------------------- in the workers


class Tries:
    """How often each piece was begun. A process of its own, which outlives the workers."""

    def __init__(self) -> None:
        self.count = Counter[int]()

    def begin(self, number: int) -> int:
        """The number of this try, from 1 on."""
        self.count[number] += 1
        return self.count[number]


def _begun(counter: Any, number: int) -> int:
    """As ``Tries.begin``, from another process; counted before it returns."""
    import ray

    return int(ray.get(counter.begin.remote(number)))


class Worker:
    """One process of the pool, with the model."""

    def __init__(
        self,
        files: Any,
        version: str,
        folder: str,
        ask: Callable[[Any, Any], Any],
        begin: Callable[[int], int],
        max_tries: int = MAX_TRIES,
        load: Callable[[Path], Any] = _estimator_in,
    ) -> None:
        import torch

        torch.set_num_threads(1)
        self.opened = _carried(lambda: _opened(files, version, folder, load))
        self.ask = ask
        self.begin = begin
        self.max_tries = max_tries

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        piece: Parcel = batch["parcel"][0]
        if piece.empty or piece.error is not None:
            return _boxed(piece)
        if self.opened.error is not None:
            return _boxed(self.opened)
        if self.begin(piece.number) > self.max_tries:
            error = _deadly(piece.number, self.max_tries)
            return _boxed(Parcel(None, piece.said, piece.warned, error))
        spent = Tally(os.devnull)
        with spent:
            answer = _carried(lambda: self.ask(self.opened.content, piece.content))
        said = piece.said + answer.said
        warned = piece.warned + answer.warned
        return _boxed(Parcel(answer.content, said, warned, answer.error, energy=spent.energy))


def _deadly(number: int, tries: int) -> Exception:
    return ConnectionError(
        f"Piece {number:,} was asked about {tries} times, and each time the worker died: it may "
        "need more memory than there is. Make pieces smaller (chunk_rows=...)."
    )


def _read(
    batch: Any,
    files: Any,
    version: str,
    folder: str,
    read: Callable[[Any], Iterator[Any]],
    load: Callable[[Path], Any] = _estimator_in,
) -> Iterator[dict[str, Any]]:
    """All pieces; an error, or the end, is the last."""
    opened = _carried(lambda: _opened(files, version, folder, load))
    if opened.error is not None:
        yield _boxed(opened)
        return
    pieces = read(opened.content)
    for number in itertools.count(1):
        piece = _carried(lambda: next(pieces, END))
        if piece.error is not None:
            yield _boxed(piece)
            return
        if isinstance(piece.content, str) and piece.content == END:
            yield _boxed(Parcel(None, piece.said, piece.warned, empty=True))
            return
        yield _boxed(replace(piece, number=number))


def _boxed(parcel: Parcel) -> dict[str, Any]:
    """A row of a table with one column."""
    import numpy as np

    box = np.empty(1, dtype=object)
    box[0] = parcel
    return {"parcel": box}


def _opened(
    files: Any, version: str, folder: str, load: Callable[[Path], Any] = _estimator_in
) -> Any:
    """What is asked, of the model's files. Relative paths are below ``folder``, where this machine
    has it. ImportError where another version is installed."""
    import ray

    if version != __version__:
        raise ImportError(
            f"A machine of the cluster has conjoin {__version__}, and this one has {version}: "
            "install the same on all."
        )
    with contextlib.suppress(OSError):
        os.chdir(folder)
    with tempfile.TemporaryDirectory() as place:
        for name, content in ray.get(files).items():
            (Path(place) / name).write_bytes(content)
        return load(Path(place))


def _carried(work: Callable[[], Any]) -> Parcel:
    """What the work gives, and what came up on the way."""
    said = io.StringIO()
    content = error = None
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(said):
        warnings.simplefilter("always")
        try:
            content = work()
        except Exception as raised:  # it is raised again where the answer is asked for
            error = _portable(raised)
    warned = tuple((each.category, str(each.message)) for each in caught)
    return Parcel(content, said.getvalue(), warned, error)


def _portable(error: Exception) -> Exception:
    """An error that can be sent: those of the library may need more than their sentence."""
    out: Exception
    if isinstance(error, OSError) and error.strerror:
        out = OSError(error.errno, error.strerror, error.filename)
    else:
        known = next((kind for kind in KNOWN if isinstance(error, kind)), None)
        words = str(error)
        out = RuntimeError(f"{type(error).__name__}: {words}") if known is None else known(words)
    of_a_model = getattr(error, OF_A_MODEL, None)
    if of_a_model is not None:
        vars(out)[OF_A_MODEL] = of_a_model
    out.add_note("".join(traceback.format_exception(error)))
    return out
