"""Facts about this machine that decide speed and the bits of results."""

import functools
import os
import platform
from pathlib import Path

_INTERESTING = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def cpu_name() -> str:
    """The processor's name with its family and model, which decide the kernels that libraries choose."""
    info = _cpuinfo()
    name = info.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({info['cpu family']}/{info['model']})" if "cpu family" in info else name


def cpu_features() -> list[str]:
    """Which of AVX2, AVX-512 and AMX this processor has, by the kernel's names."""
    flags = set(_cpuinfo().get("flags", "").split())
    return [flag for flag in _INTERESTING if flag in flags]


def has_bf16() -> bool:
    """Whether this processor has units for products in bf16, AVX-512 BF16 or AMX; elsewhere bf16 is emulated."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_features())


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(workers: int) -> int:
    """Threads for each worker process, so that all workers together use each core once."""
    return max(1, cores() // workers)


def memory_bytes() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
