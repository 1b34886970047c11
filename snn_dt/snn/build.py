"""Build the C++ kernels with the system's compiler on first use and keep the library in the user's cache.

The name of the library is a hash of its source, flags, compiler and CPU. Machines can therefore share a home
directory. A file lock lets one process build while the others wait. On a file system without locks each process writes
its own file and renames it. The last rename wins and the content is equal.

The name can be guessed and the library is code. It is loaded only if this user or root owns file and folder and nobody
else can write to them. If others can write to the cache, the library is stored in a private folder. The file ends with
the hash of the bytes before it. A damaged file is rebuilt, because loading it could crash the process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from snn_dt import io
from snn_dt.device import available_cores

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HASH_BYTES = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)

NAMES = (
    *("lif.cpp", "rate.cpp", "batch_norm.cpp", "spikes.cpp", "heterogeneous_lif.cpp"),
    *("blocks.cpp", "kept_keys.cpp", "stream.cpp"),
)
SOURCES = [Path(__file__).with_name(name) for name in NAMES]
HEADERS = [Path(__file__).with_name(name) for name in ("lanes.h", "neuron.h", "rate.h", "products.h", "blocks.h")]
# No -ffast-math: spikes must equal those of torch bit for bit. The last two flags allow if-conversion and
# change no result.
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC"]
FLAGS += ["-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"]


def find_compiler() -> str | None:
    """Return the path of the first compiler found among `$CXX`, g++, c++ and clang++."""
    return next(
        (path for name in (os.environ.get("CXX"), "g++", "c++", "clang++") if name and (path := shutil.which(name))),
        None,
    )


def _cpu() -> str:
    """Return the CPU description that `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def _key(compiler: str) -> str:
    """Return the hash of everything that the library depends on."""
    binary = Path(compiler).resolve()
    parts = [
        *(path.read_text() for path in SOURCES + HEADERS),
        " ".join(FLAGS),
        str(binary),
        str(binary.stat().st_mtime_ns),
        _cpu(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def build_library() -> Path:
    """Return the path of the library and build it if the cache lacks it.

    Raises:
        OSError, subprocess.SubprocessError: the build failed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise FileNotFoundError("no C++ compiler ($CXX, g++, c++ or clang++)")
    library = _own_folder(io.cache_root()) / f"lif-{_key(compiler)}.so"
    if not _is_usable(library):
        with _one_at_a_time(library.parent):
            if not _is_usable(library):  # another process may have built it during the wait
                logger.warning("compiling the CPU kernels, once: about 30 s on one core, less on more")
                _compile(compiler, library)
    return library


def _is_usable(library: Path) -> bool:
    """Return whether the file is undamaged and only this user or root can have written it."""
    try:
        content = io.read_bytes(library)
    except OSError:
        return False
    whole = content[-HASH_BYTES:] == hashlib.sha256(content[:-HASH_BYTES]).digest()
    return whole and io.only_ours(library) and not library.is_symlink()


def _own_folder(cache: Path) -> Path:
    """Return a folder that only this user can write: the cache, a folder inside it or a temporary one."""
    cache.mkdir(parents=True, exist_ok=True)
    if io.only_ours(cache):
        return cache
    own = cache / f"kernels-{os.geteuid()}"
    with contextlib.suppress(OSError):  # the name is taken or permission is missing
        own.mkdir(mode=0o700, exist_ok=True)
    return own if io.only_ours(own) and not own.is_symlink() else _temporary_folder()


@functools.cache
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="snn_dt-kernels-"))  # mode 0700: private to this user
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _compile(compiler: str, library: Path) -> None:
    """Compile the sources in parallel with one process per core and link them."""
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:

        def run(*arguments: str, output: str) -> str:
            path = str(Path(scratch) / output)
            command = [compiler, *FLAGS, *arguments, "-o", path]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600)
            return path

        with ThreadPoolExecutor(available_cores()) as pool:
            objects = list(pool.map(lambda source: run("-c", str(source), output=f"{source.stem}.o"), SOURCES))
        linked = Path(run("-shared", *objects, output=library.name))
        with linked.open("ab") as file:  # the loader ignores bytes after the library's end
            file.write(hashlib.sha256(linked.read_bytes()).digest())
        linked.chmod(0o755)  # `_is_usable` rejects group-writable files, which some umasks create
        os.replace(linked, library)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a lock on `folder` so that only one process builds at a time."""
    held = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if held is not None:
            with contextlib.suppress(OSError):  # the file system has no locks: build unlocked
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        if held is not None:
            os.close(held)


def load_library() -> ctypes.CDLL | None:
    """Build and load the library. Return `None` on failure and log the reason."""
    try:
        return _load(build_library())
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None)
        logger.info("spiking layers run in plain torch: %s%s", error, f"\n{output}" if output else "")
        return None


def _load(library: Path) -> ctypes.CDLL:
    """Load the library through an open file descriptor of its folder, so that the folder cannot be swapped."""
    folder = os.open(library.parent, os.O_RDONLY)
    try:
        # The path through the descriptor keeps pointing to the folder that was checked.
        held = Path(f"/proc/self/fd/{folder}")
        library = held / library.name if held.exists() else library
        if not (io.is_only_ours(os.fstat(folder)) and _is_usable(library)):
            raise PermissionError(errno.EPERM, "others can write to it", str(library))
        return ctypes.CDLL(str(library))
    finally:
        os.close(folder)
