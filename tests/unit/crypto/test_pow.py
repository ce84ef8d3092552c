"""The proof of work's backends: known answers, choice, parameters, memory, threads."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.framework.argon2_vectors import ARGON2_VECTORS, Argon2Vector
from unchained.node import crypto
from unchained.node.crypto import pow as proof
from unchained.node.crypto.pow import (
    MAX_LENGTH,
    MAX_MEM_KIB,
    POW_BACKEND_VARIABLE,
    NativeArgon2id,
    ProofOfWork,
    available_backends,
    compute_mix,
    default_backend,
    reference_backend,
)

BACKENDS = available_backends()
POW_CASES = json.loads((Path(__file__).parents[2] / "vectors" / "pow.json").read_text())["cases"]

needs_native = pytest.mark.skipif(len(BACKENDS) == 1, reason="the native kernel was not built")


def backend_of(name: str) -> ProofOfWork:
    return default_backend({POW_BACKEND_VARIABLE: name})


def native() -> NativeArgon2id:
    backend = backend_of("native")
    assert isinstance(backend, NativeArgon2id)
    return backend


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> ProofOfWork:
    return backend_of(request.param)


@pytest.fixture
def without_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(crypto, "_argon2", raising=False)
    monkeypatch.setitem(sys.modules, "unchained.node.crypto._argon2", None)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("vector", ARGON2_VECTORS, ids=lambda v: f"t{v.iterations}-m{v.mem_kib}")
def test_known_answers(backend: ProofOfWork, vector: Argon2Vector) -> None:
    tag = backend.argon2id(
        vector.password,
        vector.salt,
        iterations=vector.iterations,
        mem_kib=vector.mem_kib,
        length=32,
    )
    assert tag.hex() == vector.tag


def test_mixes_of_the_protocol(backend: ProofOfWork) -> None:
    for case in POW_CASES:
        mix = compute_mix(backend, bytes.fromhex(case["header"]), case["mem_kib"])
        assert mix.hex() == case["mix"]


def test_a_backend_answers_to_its_name() -> None:
    assert [backend_of(name).name for name in BACKENDS] == list(BACKENDS)
    assert reference_backend().name == BACKENDS[-1] == "cryptography"
    assert default_backend({}).name == BACKENDS[0]
    assert default_backend({POW_BACKEND_VARIABLE: ""}).name == BACKENDS[0]


@needs_native
def test_native_is_the_fastest_variant() -> None:
    assert backend_of("native").name == BACKENDS[0]
    assert "native-portable" in BACKENDS


def test_an_unknown_backend_is_named_with_those_available() -> None:
    with pytest.raises(ValueError, match=r"is 'native-abacus', expected one of .*cryptography$"):
        backend_of("native-abacus")


@pytest.mark.usefixtures("without_extension")
def test_without_the_extension_the_reference_serves() -> None:
    assert available_backends() == ("cryptography",)
    assert default_backend({}).name == "cryptography"
    with pytest.raises(ValueError, match=r"is 'native', expected one of cryptography$"):
        backend_of("native")


def test_importing_the_module_loads_no_backend() -> None:
    loaded = run_python(
        "import sys, unchained.node.crypto.pow\n"
        "print([m for m in sys.modules if 'numpy' in m or m.startswith('cryptography')"
        " or m.endswith('_argon2')])"
    )
    assert loaded == "[]"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": bytes(MAX_LENGTH + 1)}, "password length is 1048577, expected 0 to 1048576"),
        ({"salt": bytes(7)}, "salt length is 7, expected 8 to 1048576"),
        ({"salt": bytes(MAX_LENGTH + 1)}, "salt length is 1048577, expected 8 to 1048576"),
        ({"iterations": 0}, "iterations is 0, expected 1 to 4294967295"),
        ({"iterations": 2**32}, "iterations is 4294967296, expected 1 to 4294967295"),
        ({"mem_kib": 7}, "mem_kib is 7, expected 8 to 16777216"),
        ({"mem_kib": MAX_MEM_KIB + 1}, "mem_kib is 16777217, expected 8 to 16777216"),
        ({"mem_kib": 2**70}, f"mem_kib is {2**70}, expected 8 to 16777216"),
        ({"length": 3}, "length is 3, expected 4 to 1048576"),
        ({"length": MAX_LENGTH + 1}, "length is 1048577, expected 4 to 1048576"),
    ],
)
def test_parameters_out_of_range(backend: ProofOfWork, change: dict, said: str) -> None:
    parameters = {"password": b"", "salt": bytes(8), "iterations": 1, "mem_kib": 8, "length": 4}
    with pytest.raises(ValueError, match=f"^argon2id {said}$"):
        backend.argon2id(**(parameters | change))


@needs_native
@pytest.mark.parametrize(
    "parameters",
    [
        (bytes(MAX_LENGTH + 1), bytes(8), 1, 8, 4),
        (b"", bytes(7), 1, 8, 4),
        (b"", bytes(8), 0, 8, 4),
        (b"", bytes(8), 1, 7, 4),
        (b"", bytes(8), 1, 8, 3),
    ],
)
def test_the_extension_checks_for_itself(parameters: tuple) -> None:
    from unchained.node.crypto._argon2 import Kernel

    with pytest.raises(ValueError, match=r"^argon2id .* expected"):
        Kernel("portable").argon2id(*parameters)


@needs_native
def test_the_extension_runs_no_variant_that_is_not_there() -> None:
    from unchained.node.crypto._argon2 import Kernel

    with pytest.raises(ValueError, match=r"^variant 'abacus' does not run here$"):
        Kernel("abacus")


@needs_native
def test_one_arena_serves_hash_after_hash_and_close_frees_it() -> None:
    backend = native()
    assert backend.statistics().arenas == 0
    for mem_kib in (1024, 8, 2048, 16, 1024):
        backend.argon2id(b"", bytes(8), iterations=1, mem_kib=mem_kib, length=32)
        assert backend.statistics().arenas == 1
    kept = backend.statistics()
    assert kept.mapped >= 2048 * 1024
    assert kept.huge <= kept.mapped
    backend.close()
    assert backend.statistics() == proof.ArenaStatistics(arenas=0, mapped=0, huge=0)
    backend.argon2id(b"", bytes(8), iterations=1, mem_kib=8, length=32)
    assert backend.statistics().arenas == 1


@needs_native
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system shows no mappings")
def test_memory_goes_with_the_kernel() -> None:
    assert (
        run_python(
            "from pathlib import Path\n"
            "from unchained.node.crypto._argon2 import Kernel\n"
            "kernel = Kernel('portable')\n"
            "kernel.argon2id(b'', bytes(8), 1, 65536, 32)\n"
            "def mapped():\n"
            "    text = Path('/proc/self/statm').read_text()\n"
            "    return int(text.split()[0]) * 4096\n"
            "before = mapped()\n"
            "del kernel\n"
            "print(before - mapped() >= 65536 * 1024)"
        )
        == "True"
    )


def test_huge_pages_of_the_mappings_that_overlap() -> None:
    smaps = (
        "7f0000000000-7f0000400000 rw-p 00000000 00:00 0 \n"
        "Size:               4096 kB\n"
        "AnonHugePages:      2048 kB\n"
        "VmFlags: rd wr mr mw me ac hg \n"
        "7f0000400000-7f0000500000 rw-p 00000000 00:00 0  [anon: x]\n"
        "AnonHugePages:         0 kB\n"
    )
    assert list(proof._huge_mappings(smaps)) == [
        (0x7F0000000000, 0x7F0000400000, 2048 * 1024),
        (0x7F0000400000, 0x7F0000500000, 0),
    ]


@needs_native
def test_close_while_hashes_run_frees_their_arenas_when_they_end() -> None:
    backend = native()
    started = threading.Barrier(3)

    def work() -> bytes:
        started.wait()
        return backend.argon2id(b"x", bytes(8), iterations=2, mem_kib=16384, length=32)

    with ThreadPoolExecutor(2) as pool:
        tags = [pool.submit(work) for _ in range(2)]
        started.wait()
        backend.close()
        assert tags[0].result() == tags[1].result()
    backend.close()
    assert backend.statistics().arenas == 0


def test_threads_share_a_backend(backend: ProofOfWork) -> None:
    jobs = [(bytes([k]), 8 + k * 37 % 400, 1 + k % 3, 4 + k * 11 % 90) for k in range(96)]

    def tag(job: tuple[bytes, int, int, int]) -> bytes:
        password, mem_kib, iterations, length = job
        return backend.argon2id(
            password, bytes(8), iterations=iterations, mem_kib=mem_kib, length=length
        )

    alone = [tag(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = [list(pool.map(tag, jobs)) for _ in range(3)]
    assert together == [alone] * 3


@needs_native
def test_a_forked_child_hashes_in_memory_of_its_own() -> None:
    code = (
        "import os\n"
        "from unchained.node.crypto.pow import default_backend\n"
        "backend = default_backend({'UNCHAINED_POW_BACKEND': 'native'})\n"
        "def tag(word):\n"
        "    return backend.argon2id(word, bytes(8), iterations=1, mem_kib=1024, length=32)\n"
        "before = tag(b'parent')\n"
        "out, into = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.write(into, tag(b'parent'))\n"
        "    os._exit(0)\n"
        "assert tag(b'parent') == before == os.read(out, 32)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print('equal')"
    )
    assert run_python(code) == "equal"


@needs_native
@pytest.mark.skipif(os.name != "posix", reason="address space is limited by setrlimit")
def test_memory_that_cannot_be_had() -> None:
    code = (
        "import resource\n"
        "from unchained.node.crypto.pow import default_backend\n"
        "backend = default_backend({'UNCHAINED_POW_BACKEND': 'native'})\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "def tag(mem_kib):\n"
        "    return backend.argon2id(b'', bytes(8), iterations=1, mem_kib=mem_kib, length=4)\n"
        "before = tag(1024)\n"
        "try:\n"
        "    tag(4 * 1024 * 1024)\n"
        "except MemoryError as error:\n"
        "    print(error)\n"
        "assert tag(1024) == before"
    )
    assert run_python(code) == "argon2id cannot have 4194304 KiB of memory"
